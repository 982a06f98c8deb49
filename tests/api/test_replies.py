"""Responses: validators, compression, sizes, common headers, and problems instead of unexplained errors."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.api.resources import usage
from metering.errors import FormatTooNewError, LedgerCorruptError, OperationFailedError, UnavailableError
from tests.api.world import FIRST, ApiWorld, complete_until
from tests.api.world import at_rest as world
from tests.support.lake_world import HOUR, record

if TYPE_CHECKING:
    from metering.api.asking import Asked, Reply

CLOSED = "/v1/usage?from=2026-10&group_by=account_id"
OPEN = "/v1/usage?from=2026-11&group_by=account_id"


def test_a_tag_stays_while_nothing_changes_and_not_longer() -> None:
    fresh = ApiWorld()
    first = fresh.get(OPEN)
    fresh.world.clock.advance_s(7)
    again = fresh.get(OPEN, if_none_match=f'"other", {first.headers["etag"]}')
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert first.headers["etag"].startswith('W/"')
    assert first.headers["cache-control"] == "private, max-age=30"
    assert fresh.get(f"{OPEN}&format=csv").headers["etag"] != first.headers["etag"]
    assert fresh.get(OPEN, "first").headers["etag"] != first.headers["etag"]
    complete_until(fresh.world, HOUR + 60)
    moved = fresh.get(OPEN, if_none_match=first.headers["etag"])
    assert moved.status_code == 200
    fresh.world.send([record(1)])
    changed = fresh.get(OPEN, if_none_match=moved.headers["etag"])
    assert (changed.status_code, changed.headers["etag"] != moved.headers["etag"]) == (200, True)


def test_a_closed_month_is_known_again_by_its_ledger_alone() -> None:
    fresh = ApiWorld()
    first = fresh.get(CLOSED)
    assert first.headers["cache-control"] == "private, max-age=86400"
    calls: list[str] = []
    fresh.world.items.on_call = fresh.world.objects.on_call = calls.append
    again = fresh.get(CLOSED, if_none_match=first.headers["etag"])
    assert again.status_code == 304
    assert len(calls) == 1
    # A day later the data is the same, and a token that sees less gets no such reply.
    complete_until(fresh.world, HOUR + 60)
    assert fresh.get(CLOSED, if_none_match=first.headers["etag"]).status_code == 304
    assert fresh.get(CLOSED, "first", if_none_match=first.headers["etag"]).status_code == 200
    assert fresh.get(f"{CLOSED}&with_corrections=true").headers["cache-control"] == "private, max-age=30"


def test_a_closed_month_by_a_word_is_another_month_soon_and_is_not_kept_long() -> None:
    answer = world().get("/v1/usage?from=last-month")
    assert answer.json()["periods"] == {"2026-10": "closed"}
    assert answer.headers["cache-control"] == "private, max-age=30"


def test_who_takes_gzip_gets_the_same_bytes_smaller() -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id,day,to,service,hour"
    plain = world().get(asked, accept_encoding="identity")
    zipped = world().get(asked, accept_encoding="gzip;q=1.0, identity; q=0.5")
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.content == plain.content
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"])
    for refused in ("gzip;q=0", "br", ""):
        assert "content-encoding" not in world().get(asked, accept_encoding=refused).headers


def test_rows_are_never_cut_they_are_refused_with_their_number() -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id,to"
    rows = len(world().json(asked)["rows"])
    assert rows == 12
    limited = world().limited(json_rows=rows - 1, table_rows=rows - 2)
    for form, most in (("json", 11), ("csv", 10), ("parquet", 10), ("ndjson", 10)):
        answer = limited.get(f"{asked}&format={form}")
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:metering:problem:answer-too-large"
        assert f"12 rows, and {most} are the most" in answer.json()["detail"]
    enough = world().limited(json_rows=rows, table_rows=rows)
    assert enough.get(asked).status_code == enough.get(f"{asked}&format=csv").status_code == 200
    pages = limited.get(f"{asked}&limit=11").json()
    assert len(pages["rows"]) == 11
    assert pages["next"]


def test_bytes_that_a_function_cannot_hand_over_are_refused() -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id,day,to,service"
    size = len(world().get(asked, accept_encoding="identity").content)
    # A Lambda response is a string within JSON, where quotation marks and line ends take two bytes.
    assert world().limited(answer_bytes=size).get(asked, accept_encoding="identity").status_code == 422
    assert world().limited(answer_bytes=2 * size).get(asked, accept_encoding="identity").status_code == 200
    assert world().limited(answer_bytes=size).get(asked, accept_encoding="gzip").status_code == 200
    binary = world().get(f"{asked}&format=parquet").content
    assert world().limited(answer_bytes=len(binary)).get(f"{asked}&format=parquet").status_code == 422
    assert world().limited(answer_bytes=len(binary) * 3 // 2).get(f"{asked}&format=parquet").status_code == 200


def test_csv_and_parquet_say_in_headers_what_they_have_no_place_for() -> None:
    answer = world().get(f"{OPEN}&format=csv&limit=1")
    assert answer.headers["metering-as-of"] == "2026-11-24T13:30:00Z"
    assert answer.headers["metering-complete-through"] == "2026-11-24T13:00:00Z"
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    link = answer.headers["link"]
    assert link.endswith('>; rel="next"')
    following = world().get(f"/v1/usage{link[1 : link.index('>')]}")
    assert following.headers["content-type"].startswith("text/csv")
    assert following.text.splitlines()[1].split(",")[0] == "210987654321"


@pytest.mark.parametrize(
    ("path", "who", "status"),
    [
        (OPEN, "operator", 200),
        ("/v1/health", None, 200),
        ("/openapi.json", None, 200),
        (OPEN, None, 401),
        (f"/v1/usage?account={FIRST}", "second", 403),
        ("/v1/nothing", "operator", 404),
        ("/v1/usage/", "operator", 404),
        ("/v1/usage?x=1", "operator", 400),
        ("/v1/usage?from=2019-01", "operator", 422),
    ],
)
def test_every_response_has_the_headers_that_keep_it_harmless(path: str, who: str | None, status: int) -> None:
    answer = world().get(path, who)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers.get("metering-role") == (who if status == 200 else None)
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        told = answer.json()
        assert told["status"] == status
        assert told["type"].startswith("urn:metering:problem:")
        assert set(told) <= {"type", "title", "status", "detail", "errors"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_the_api_only_reads(method: str) -> None:
    answer = world().send(method, "/v1/usage", {"Authorization": "Bearer operator"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (UnavailableError("dynamodb.Query", "secret-table is throttled"), 503, "unavailable"),
        (OperationFailedError("It was refused.", "Do this."), 422, "refused"),
        (LedgerCorruptError("secret"), 500, "fault"),
        (FormatTooNewError(found=9, known=1, needed="9.0"), 500, "fault"),
        (ValueError("secret"), 500, "fault"),
        (AssertionError("secret"), 500, "fault"),
    ],
)
def test_whatever_fails_is_a_problem_without_its_insides(
    error: Exception, status: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_asked: Asked) -> Reply:
        raise error

    monkeypatch.setattr(usage, "RESOURCES", (replace(usage.USAGE, answer=fails),))
    answer = world().limited().get("/v1/usage")
    assert answer.status_code == status
    assert answer.json()["type"] == f"urn:metering:problem:{kind}"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    if status == 503:
        assert answer.headers["retry-after"] == "5"


def test_health_is_not_well_while_a_ledger_does_not_answer() -> None:
    fresh = ApiWorld()
    assert fresh.get("/v1/health", None).status_code == 200

    def silent(_call: str) -> None:
        raise UnavailableError("dynamodb.GetItem", "throttled")

    fresh.world.items.on_call = silent
    # The cache answers first.
    assert fresh.get("/v1/health", None).status_code == 200
    fresh.world.clock.advance_s(6)
    told = fresh.get("/v1/health", None)
    assert (told.status_code, "throttled" in told.text) == (503, False)
    fresh.world.items.on_call = lambda _call: None
    assert fresh.get("/v1/health", None).status_code == 503
    fresh.world.clock.advance_s(6)
    assert fresh.get("/v1/health", None).json() == {"status": "ok"}


def test_nobody_waits_for_the_health_that_somebody_else_asks_for() -> None:
    fresh = ApiWorld()
    meanwhile: list[int] = []

    def slow(_call: str) -> None:
        fresh.world.items.on_call = lambda _call: None
        meanwhile.append(fresh.get("/v1/health", None).status_code)

    for expected in (503, 200):
        fresh.world.clock.advance_s(6)
        fresh.world.items.on_call = slow
        assert fresh.get("/v1/health", None).status_code == 200
        assert meanwhile.pop() == expected


def test_the_accept_header_chooses_the_form_and_never_fails() -> None:
    chance = random.Random(5)
    parts = ["text/csv", "application/json", "application/x-ndjson", "*/*", ";", ",", "q=", "q=0.5", "q=x", "\xe4", " "]
    for _ in range(60):
        accept = "".join(chance.choices(parts, k=chance.randint(0, 8)))
        assert world().get("/v1/freshness", accept=accept).status_code == 200
    preferred = world().get("/v1/freshness", accept="application/json;q=0.3, text/csv;q=0.7, */*;q=0.9")
    assert preferred.headers["content-type"] == "text/csv; charset=utf-8"
    assert world().get("/v1/freshness?format=json", accept="text/csv").headers["content-type"] == "application/json"
    assert world().get("/v1/freshness", accept="text/html,text/csv;q=0").headers["content-type"] == "application/json"


def test_formulas_are_made_harmless_in_csv() -> None:
    fresh = ApiWorld()
    fresh.world.send([record(5, resource="=1+1")])
    lines = fresh.get("/v1/usage?last=2h&detail=resource_id&format=csv").text.splitlines()
    assert any("'=1+1" in line for line in lines)


# The API's explanation of a refused request helps its sender, and repeats nothing.


@pytest.mark.parametrize(
    ("asked", "who", "detail"),
    [
        ("/v1/trace?last=2h", "analyst", "account has to be given. The account of the line: exactly one."),
        (
            "/v1/cost?month=2026-11&from=2026-11",
            "analyst",
            "2026-11 cannot stand beside a beginning, an end or a span. Leave either out.",
        ),
        ("/v1/cost?month=2026", "analyst", "2026 is not a month: write it as 2026-11."),
        ("/v1/batches?id=nope", "analyst", "No marker tells of batch nope. Look whether the id is right."),
        # In ASCII: JSON would escape any other character, and a person at a terminal could not paste that.
        ("/v1/usage", None, "Send a token that is valid: Authorization: Bearer mtr_... "),
    ],
)
def test_the_detail_says_what_to_do(asked: str, who: str | None, detail: str) -> None:
    assert ApiWorld().get(asked, who).json()["detail"].startswith(detail)
