"""Responses: cache validators, compression, sizes, common headers, and the problems of invalid requests."""

from __future__ import annotations

import random
import string
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from metering.api.parameters import Parameter, ProblemError, given_values
from metering.api.resources import usage
from metering.errors import FormatTooNewError, LedgerCorruptError, OperationFailedError, UnavailableError
from tests.api.world import FIRST, ApiWorld, complete_until, documented
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
    with fresh.calls() as calls:
        assert fresh.get(CLOSED, if_none_match=first.headers["etag"]).status_code == 304
    assert len(calls) == 1
    # A day later the data is unchanged, but a token with fewer accounts does not get 304.
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
    for most, encoding, status in ((size, "identity", 422), (2 * size, "identity", 200), (size, "gzip", 200)):
        assert world().limited(answer_bytes=most).get(asked, accept_encoding=encoding).status_code == status
    binary = len(world().get(f"{asked}&format=parquet").content)
    for most, status in ((binary, 422), (binary * 3 // 2, 200)):
        assert world().limited(answer_bytes=most).get(f"{asked}&format=parquet").status_code == status


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


@pytest.mark.parametrize(("path", "who", "status"), [
    (OPEN, "operator", 200),
    ("/v1/health", None, 200),
    ("/openapi.json", None, 200),
    (OPEN, None, 401),
    (f"/v1/usage?account={FIRST}", "second", 403),
    ("/v1/nothing", "operator", 404),
    ("/v1/usage/", "operator", 404),
    ("/v1/usage?x=1", "operator", 400),
    ("/v1/usage?from=2019-01", "operator", 422),
])  # fmt: skip
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


@pytest.mark.parametrize(("error", "status", "kind"), [
    (UnavailableError("dynamodb.Query", "secret-table is throttled"), 503, "unavailable"),
    (OperationFailedError("It was refused.", "Do this."), 422, "refused"),
    (LedgerCorruptError("secret"), 500, "fault"),
    (FormatTooNewError(found=9, known=1, needed="9.0"), 500, "fault"),
    (ValueError("secret"), 500, "fault"),
    (AssertionError("secret"), 500, "fault"),
])  # fmt: skip
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


@pytest.mark.parametrize(("asked", "who", "detail"), [
    ("/v1/trace?last=2h", "analyst", "account has to be given. The account of the line: exactly one."),
    ("/v1/cost?month=2026-11&from=2026-11", "analyst", "2026-11 cannot stand beside a beginning, an end or a span."),
    ("/v1/cost?month=2026", "analyst", "2026 is not a month: write it as 2026-11."),
    ("/v1/batches?id=nope", "analyst", "No marker tells of batch nope. Look whether the id is right."),
    # In ASCII: JSON would escape any other character, and a person could not paste the escaped text at a terminal.
    ("/v1/usage", None, "Send a token that is valid: Authorization: Bearer mtr_... "),
])  # fmt: skip
def test_the_detail_says_what_to_do(asked: str, who: str | None, detail: str) -> None:
    assert ApiWorld().get(asked, who).json()["detail"].startswith(detail)


_ODD = [
    "", "0", "-1", "1e3", "١٢٣", "999999999999999999999999", "null", "true", "TRUE", "[]", "{}", "'", '"', "\\", "\x00",
    "\n", "\r\nX-Header: 1", "a,b", ",", ",,", "a,", "%", "%25", "../../etc/passwd", "<script>", "=1+1", "a" * 5_000,
    "🙂", "\ud7ff", "0001-01-01", "0127-07-08", "9999-12-31", "10000-01-01", "2026-02-30", "2026-13",
    "2026-11-24T24:00:00Z", "2026-W48", "2026-11-24T13:00:00+01:00", "2026-11-24T13:00:00.5Z", "2026-11-24 13:00:00Z",
    "20261124", "1764000000", "now", "0h", "9999m", "000000000000", f"{FIRST},{FIRST}", "USE1-#-x", "K#tokens",
    "day,day,day", "bytes:DESC", "hour", "corrects,corrects", "Europe/../UTC", "Etc/GMT+12", "us-east-1/", "mtr_x_y",
    "eyJ", "WzEsMiwzXQ", "W10", "bnVsbA", "////", "2026-11-24T13",
]  # fmt: skip


def quoted(text: str, *, safe: str = ",:/") -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe=safe)


def check(path: str, who: str | None = "operator") -> int:
    """Send a request, and check the rules of every response."""
    began_s = time.process_time()
    answer = world().get(path, who)
    assert time.process_time() - began_s < 2, path
    assert answer.status_code < 500 or answer.status_code == 503, (path, answer.text)
    if answer.status_code >= 400:
        told = answer.json()
        assert told["detail"], path
        assert len(answer.content) < 60_000
        assert "\n" not in told["detail"].replace("\\n", "")
        assert all(each["parameter"] and each["detail"] for each in told.get("errors", []))
    return answer.status_code


def test_each_odd_value_of_each_parameter_is_an_answer_or_a_problem() -> None:
    chance = random.Random(3)
    for path, parameters in documented(world()).items():
        for each in parameters:
            for text in chance.sample(_ODD, 9):
                given = {other["name"]: other["example"] for other in parameters if other["required"]}
                given[each["name"]] = quoted(text, safe="" if each["in"] == "path" else ",:/")
                inside = {other["name"]: given.pop(other["name"]) for other in parameters if other["in"] == "path"}
                query = "&".join(f"{name}={value}" for name, value in given.items())
                check(f"{path.format(**inside)}?{query}")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_many_odd_requests(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(700):
        path = chance.choice(list(documented(world())))
        parts = []
        for _ in range(chance.randint(0, 5)):
            names = [each["name"] for each in documented(world())[path]] or ["x"]
            name = chance.choice([*names, *names, "x", "", "account[]", chance.choice(string.printable)])
            text = chance.choice([*_ODD, "".join(chance.choices(string.printable, k=chance.randint(1, 30)))])
            parts.append(f"{quote(name)}={quoted(text)}")
        check(f"{path.replace('{hour}', quote(chance.choice(_ODD) or 'x', safe=''))}?{'&'.join(parts)}")


@pytest.mark.parametrize("query", [
    "from=%ff", "%ff=1", "from=%", "from=%zz", "from", "=", "&&&", "from=2026-11&from=2026-10", "account[]=1",
    "account=1&account=2", "a=1;b=2", "x" * 9_000, "&".join(f"p{n}=1" for n in range(200)), "group_by=day&Group_By=day",
    "from=2026-11-24T13:00:00+01:00", "from=2026-11-24T13%3A00%3A00%2B01%3A30", "from=2026-11-24T13%3A30%3A00Z",
])  # fmt: skip
def test_odd_queries_are_problems_and_none_is_taken_for_a_smaller_question(query: str) -> None:
    assert check(f"/v1/usage?{query}") in ({400, 422} if query != "&&&" else {200})


def test_a_query_says_every_problem_at_once_in_the_words_of_the_command_line() -> None:
    answer = world().get("/v1/usage?account=123&acount=1&to=&limit=0&group_by=1&group_by=day")
    assert answer.status_code == 400
    told = {each["parameter"]: each["detail"] for each in answer.json()["errors"]}
    assert told["account"] == "123 is not an account: an account has 12 digits."
    assert told["acount"].startswith("There is no parameter acount. Nearest: account.")
    assert told["to"] == "to is empty. Leave it out, or give it a value."
    assert told["limit"] == "0 is not a whole number from 1 to 20000."
    assert "is given twice" in told["group_by"] or "column" in told["group_by"]
    plus = world().get("/v1/usage?from=2026-11-24T13:00:00+01:00").json()["errors"][0]["detail"]
    assert plus.endswith("Write + as %2B in a URL.")


@pytest.mark.parametrize("path", [
    "/v1", "/v1/", "/V1/usage", "//v1/usage", "/v1//usage", "/v1/usage%2F", "/v1/usage/../usage/x", "/v2/usage", "/%00",
    "/v1/hours/", "/v1/hours/%2e%2e", "/v1/hours/2026-11-24T13%2Fx", "/docs", "/redoc", "/openapi.yaml",
    "/v1/%F0%9F%99%82",
])  # fmt: skip
def test_other_paths_are_nothing(path: str) -> None:
    assert check(path) in {400, 404}


@pytest.mark.parametrize("headers", [
    {"If-None-Match": "*"}, {"If-None-Match": 'W/"' + "x" * 5_000}, {"If-None-Match": "\xff,,,"},
    {"Accept-Encoding": "gzip;q=nan, *;q=1e400"},
    {"Accept": "text/csv;q=inf"},
    {"Range": "bytes=0-1"}, {"X-HTTP-Method-Override": "DELETE"}, {"X-Forwarded-Host": "evil.example"},
    {"Content-Length": "-1"}, {"Content-Type": "a/b"},
])  # fmt: skip
def test_odd_headers_change_nothing(headers: dict[str, str]) -> None:
    answer = world().send("GET", "/v1/usage?from=2026-11", {"Authorization": "Bearer operator", **headers})
    assert answer.status_code in {200, 304}
    assert "evil.example" not in str(answer.headers)


def test_given_values_are_as_they_are_declared_or_none_at_all() -> None:
    declared = (
        Parameter(name="one", about="One.", pattern="[a-c]{1,3}", most_chars=3, most_values=2),
        Parameter(name="number", about="A number.", kind="integer", minimum=2, maximum=30),
    )
    assert given_values(declared, b"one=a,bc&number=030").number("number") == 30
    for query in ("one=a,b,c", "one=abcd", "one=a,", "one=a\n", "number=1", "number=31", "number=+3", "number=3.0"):
        with pytest.raises(ProblemError) as caught:
            given_values(declared, query.encode())
        assert caught.value.status == 400
