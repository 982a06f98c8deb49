"""`metering invoice` and `export` as commands, over two regions: drafts, issue, page, checks, credit notes, targets."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import partial
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from metering.billing.organization import OrganizationStore
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.prices.store import PriceStore
from metering.units import DAY_S, GIB
from tests.support import command_line
from tests.support.command_line import AWAY, HOME, REFUSED, TwoRegions
from tests.support.lake_world import NOW_S, record
from tests.support.priced import US_TIERS, allowance, book, gb, product

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from metering.billing.prices.book import PriceBook

OCTOBER_S = NOW_S - 30 * DAY_S
PAYER, OTHER, ALONE = "111111111111", "222222222222", "333333333333"
ID = f"{PAYER}-2026-10-1"
NAME = "<script>alert(1)</script> & =1+1"
run = partial(command_line.run, "invoice")
ask = partial(command_line.ask, "invoice")
refused = partial(command_line.refused, "invoice")


def prices(out: str = "0.09") -> PriceBook:
    tiers = (("10240", out), *US_TIERS[1:])
    sold = (product("OUTUSE1", "DataTransfer-Out-Bytes", tiers), product("OUTEU", "EU-DataTransfer-Out-Bytes", tiers))
    return replace(book(sold, allowance("100", "OUTEU", "OUTUSE1")), name="aws-list")


def billed() -> TwoRegions:
    """Two regions with prices, a payer of two accounts, and usage of these accounts in October."""
    made = TwoRegions()
    PriceStore(made.home.world.objects).put(prices())
    members = tuple(Membership(account, 0, None) for account in (PAYER, OTHER))
    payer = Payer(payer_id=PAYER, name=NAME, issuer="Metering", members=members)
    OrganizationStore(made.home.world.objects).put(Organization(payers=(payer,)))
    made.send(HOME, record(gb("600"), start_s=OCTOBER_S, account=PAYER))
    made.send(AWAY, {**record(gb("300"), start_s=OCTOBER_S, account=OTHER), "from": "eu-west-1"})
    return made


@pytest.fixture
def stage() -> Iterator[TwoRegions]:
    made = billed()
    with made.typed():
        yield made


def test_a_month_of_two_regions_is_drafted_issued_shown_verified_credited_and_listed(stage: TwoRegions) -> None:
    stage.close()
    draft = ask("draft", "--month", "2026-10", "--payer", PAYER)
    assert (draft["draft"], draft["left_out"], draft["total"]["usd"]) == (True, [], "72.00")
    shown = run("draft", "--month", "2026-10", "--payer", PAYER, "--format", "table").stdout
    digest = re.search(r"metering invoice issue (--month .* --as-drafted [0-9a-f]{64})$", shown, re.MULTILINE)
    assert digest, "a draft ends with the command that issues just it"
    issued = ask("issue", *digest[1].split())
    assert [(row["id"], row["usd"], row["state"]) for row in issued["rows"]] == [(ID, "72.00", "issued")]
    again = ask("issue", "--month", "2026-10")
    assert [row["state"] for row in again["rows"]] == ["issued before"]
    assert "It is issued already" in run("draft", "--month", "2026-10", "--payer", PAYER).stderr
    document = ask("show", ID)
    assert {each["region"] for each in document["lines"]} == {HOME, AWAY}
    assert {**draft, "draft": False} == document
    assert ask("verify", ID)["rows"] == []
    PriceStore(stage.home.world.objects).put(prices("0.08"))
    note = ask("credit", ID, "--because", "the price was wrong")
    assert (note["id"], note["credit_of"], note["total"]["usd"]) == (f"{PAYER}-2026-10-2", ID, "-8.00")
    assert ask("verify", note["id"])["rows"] == []
    page = run("show", note["id"], "--format", "html").stdout
    assert f"Credit note {note['id']} to invoice {ID}" in page
    moved = r"<td[^>]*><div>-([0-9,]+)</div><div>\1</div></td><td[^>]*><div>0.09</div><div>0.08</div></td>"
    assert re.search(moved, page), "what was billed at one price, and what it costs at the other, can be multiplied"
    listed = ask("list")
    assert (listed["total_usd"], listed["documents"]) == ("64.00", 2)
    assert [
        (row["id"], row["billing_month"]) for row in ask("list", "--month", "2026-10", "--payer", PAYER)["rows"]
    ] == [(ID, "2026-10"), (note["id"], "2026-11")]
    assert ask("list", "--month", "2026-09")["rows"] == []
    second = run("credit", ID, "--because", "once more")
    assert (second.exit_code, second.stdout) == (1, "")
    assert "there is no difference" in second.stderr


def test_late_rows_are_corrections_of_the_next_invoice_and_the_first_one_stays(stage: TwoRegions) -> None:
    stage.close()
    ask("issue", "--month", "2026-10")
    body = stage.home.world.objects.get(f"invoices/2026-10/{PAYER}/1.json")
    stage.send(HOME, record(gb("10"), start_s=OCTOBER_S + 3600, account=PAYER))
    draft = ask("draft", "--month", "2026-11", "--payer", PAYER)
    [correction] = draft["corrections"]
    assert (correction["month"], correction["usd"], correction["hours"][0][:7]) == ("2026-10", "0.90", "2026-10")
    assert stage.home.world.objects.get(f"invoices/2026-10/{PAYER}/1.json") == body
    assert [each["region"] for each in draft["left_out"]] == [AWAY, HOME]


@pytest.mark.parametrize(("line", "code", "why"), [
    (("issue", "--month", "2026-10"), 1, "region eu-west-1 has not closed 2026-10"),
    (("issue", "--month", "2026-11"), 1, "it ends on 2026-12-01T00:00:00Z"),
    (("issue", "--month", "2026-12"), 1, "it begins on 2026-12-01T00:00:00Z"),
    (("issue", "--month", "9998-01"), 1, "it begins on 9998-01-01"),
    (("issue", "--month", "9999-12"), 2, "9999-12 is not a month"),
    (("issue", "--month", "2026-13"), 2, "2026-13 is not a month"),
    (("issue",), 2, "--month"),
    (("draft", "--month", "2026-12"), 1, "2026-12 has not begun"),
    (("draft", "--month", "2026-10", "--payer", "12"), 2, "12 is no account"),
    (("draft", "--month", "2026-10", "--prices", "acme"), 1, "There is no price book acme."),
    (("draft", "--month", "2026-10", "--prices", "../x"), 1, "that is not the name of a book"),
    (("show", "nothing"), 1, "'nothing' is no id of an invoice."),
    (("verify", ID), 1, f"There is no invoice {ID}."),
    (("credit", ID, "--because", "x"), 1, f"There is no invoice {ID}."),
    (("issue", "--month", "2026-10", "--as-drafted", "x"), 2, "--as-drafted is about one payer."),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(stage: TwoRegions, line: tuple[str, ...], code: int, why: str) -> None:
    stage.close(HOME)
    told = refused(*line, code=code)
    assert why in told
    assert "Traceback" not in told
    assert not list(stage.home.world.objects.list("invoices/"))


def test_a_draft_of_a_payer_without_usage_says_so(stage: TwoRegions) -> None:
    mistyped = run("draft", "--month", "2026-10", "--payer", "999999999998")
    assert (mistyped.exit_code, "No usage of payer 999999999998 is metered in 2026-10" in mistyped.stderr) == (0, True)
    assert "No usage" not in run("draft", "--month", "2026-10", "--payer", PAYER).stderr


def test_a_region_that_gives_no_answer_is_named_in_a_draft_and_refuses_an_invoice(stage: TwoRegions) -> None:
    stage.close()
    stage.silent[AWAY] = REFUSED
    draft = ask("draft", "--month", "2026-10", "--payer", PAYER)
    assert [each["region"] for each in draft["left_out"]] == [AWAY]
    assert draft["total"]["usd"] == "45.00"
    everybody = run("draft", "--month", "2026-10", "--format", "table")
    assert "Left out, because it cannot be read: eu-west-1" in " ".join(everybody.stdout.split())
    assert "region eu-west-1 cannot be read" in refused("issue", "--month", "2026-10")


def test_usage_without_a_price_is_listed_with_the_cure(stage: TwoRegions) -> None:
    stage.send(HOME, {**record(7, start_s=OCTOBER_S), "usage_type": "USW2-NatGateway-Bytes"})
    stage.close()
    drafts = " ".join(run("draft", "--month", "2026-10", "--format", "table").stdout.split())
    assert "NO PRICE IS KNOWN, so totals are too small: 7 bytes of AmazonEC2 USW2-NatGateway-Bytes." in drafts
    result = run("issue", "--month", "2026-10")
    assert result.exit_code == 1
    assert "AmazonEC2 USW2-NatGateway-Bytes has no price in aws-list version 1" in " ".join(result.stderr.split())
    assert "metering prices import" in result.stderr


def test_a_credit_note_says_which_price_is_new(stage: TwoRegions) -> None:
    stage.close()
    ask("issue", "--month", "2026-10")
    PriceStore(stage.home.world.objects).put(prices("0.081"))
    shown = run("credit", ID, "--because", "The contract's price.", "--format", "table")
    assert "USD a GB now, and what was billed: 0.081 instead of 0.09." in " ".join(shown.stdout.split())


def test_a_payer_without_a_price_is_named_and_all_others_are_issued_and_shown(stage: TwoRegions) -> None:
    stage.send(HOME, {**record(7, start_s=OCTOBER_S, account=ALONE), "usage_type": "NatGateway-Bytes"})
    stage.close()
    result = run("issue", "--month", "2026-10", "--format", "json")
    assert [each["id"] for each in json.loads(result.stdout or '{"rows": []}')["rows"]] == [ID], "nobody is issued"
    told = " ".join(result.stderr.split())
    assert result.exit_code == 1
    draft = run("draft", "--month", "2026-10", "--payer", ALONE, "--format", "table")
    assert "metering prices check --month 2026-10, metering prices import FILE" in " ".join(draft.stdout.split())
    assert f"2026-10 of {ALONE} is not issued: AmazonEC2 NatGateway-Bytes has no price in aws-list version 1" in told
    assert "AmazonVPC and AmazonEC2" in told
    PriceStore(stage.home.world.objects).put(
        replace(prices(), products=(*prices().products, product("NAT1", "NatGateway-Bytes", ((None, "0.045"),))))
    )
    rows = ask("issue", "--month", "2026-10")["rows"]
    assert [(each["id"], each["state"]) for each in rows] == [(ID, "issued before"), (f"{ALONE}-2026-10-1", "issued")]
    cost = command_line.ask("cost", "--month", "2026-10", "--region", "all", "--group-by", "payer")
    assert (cost["periods"], cost["unpriced"], cost["price_book"]["version"]) == ({"2026-10": "invoice"}, [], 2)
    assert Fraction(cost["total_usd"]) == sum(Fraction(each["exact_usd"]) for each in rows)


def test_a_stage_with_gateway_logs_and_the_shipped_book_is_invoiced(stage: TwoRegions) -> None:
    for usage_type in ("TransitGateway-Bytes", "VpcPeering-In-Bytes", "VpcPeering-Out-Bytes"):
        used = {**record(gb("5"), start_s=OCTOBER_S, account=ALONE), "service": "AmazonVPC", "usage_type": usage_type}
        stage.send(HOME, {**used, "from": "us-east-1", "to": "us-east-1"})
    stage.close()
    result = run("issue", "--month", "2026-10", "--payer", ALONE, "--prices", "sample", "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert [each["usd"] for each in json.loads(result.stdout)["rows"]] == ["0.20"]


def test_an_object_of_a_closed_month_that_changed_is_named_and_the_exit_code_is_1(stage: TwoRegions) -> None:
    stage.close()
    ask("issue", "--month", "2026-10")
    objects = stage.regions[AWAY].world.objects
    key = next(info.key for info in objects.list("closed/2026-10/") if info.key.endswith("days.parquet"))
    body = objects.get(key)
    objects.put(key, stage.home.world.objects.get(key), if_absent=False)
    result = run("verify", ID, "--format", "json")
    assert result.exit_code == 1
    assert f"eu-west-1: {key} has other rows than those that were frozen" in result.stdout
    objects.put(key, body[:40] + bytes([body[40] ^ 255]) + body[41:], if_absent=False)
    damaged = run("verify", ID, "--format", "json")
    assert (damaged.exit_code, "eu-west-1" in damaged.stdout, key in damaged.stdout) == (1, True, True)
    objects.put(key, body, if_absent=False)
    assert run("verify", ID).exit_code == 0


class Tags(HTMLParser):
    """Names of all elements of a page, and its references to anything outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [each for each in attrs if each[0] in {"src", "href", "action", "data", "srcset"}]


def test_the_page_to_print_needs_no_network_and_runs_nothing_of_the_data(stage: TwoRegions, tmp_path: Path) -> None:
    stage.close()
    ask("issue", "--month", "2026-10")
    target = tmp_path / "invoice.html"
    result = run("show", ID, "--format", "html", "--output", str(target))
    assert (result.exit_code, result.stdout) == (0, "")
    html = target.read_text()
    tags = Tags()
    tags.feed(html)
    assert not tags.names & {"script", "link", "img", "iframe", "object", "form"}
    assert not tags.links
    assert not re.search(r"https?://|@import|url\(", html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "default-src 'none'" in html.replace("&#x27;", "'")
    for text in (ID, "72.00 USD", "OUTUSE1.JRTCKXETXF.RATE0", PAYER, OTHER, "aws-list version 1", "State: issued."):
        assert text in html
    assert run("show", ID, "--format", "html").stdout == html


def test_a_reader_of_the_page_can_multiply_gb_and_price(stage: TwoRegions) -> None:
    stage.send(HOME, record(1_000 * GIB + 1, start_s=OCTOBER_S, account=PAYER))
    stage.close()
    ask("issue", "--month", "2026-10")
    page = run("show", ID, "--format", "html").stdout
    figures = re.findall(r'<td class="n" title="([0-9,]+) bytes">([0-9,.]+)</td>', page)
    assert figures
    for size, shown in figures:
        exact = Decimal(size.replace(",", "")) / GIB
        assert Decimal(shown.replace(",", "")) == exact.quantize(Decimal("1e-10"), ROUND_HALF_UP)


@pytest.mark.usefixtures("stage")
def test_other_commands_do_not_take_the_page() -> None:
    assert run("list", "--format", "html").exit_code == 2
    assert ALONE not in run("list").stdout


MONTH = "2026-10"
# 100 GB are free.
BILLED = Decimal(800 * 9).scaleb(-2)
export = partial(command_line.run, "export")
refused_export = partial(command_line.refused, "export")


def exported(*line: str) -> Any:
    result = export(*line)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows_of(folder: Path, columns: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        files = f"read_parquet('{folder}/CostAndUsage-*.parquet')"
        return connection.execute(f"SELECT {columns} FROM {files} GROUP BY ALL ORDER BY ALL").fetchall()  # noqa: S608


def issued(stage: TwoRegions) -> None:
    stage.close()
    result = run("issue", "--month", MONTH, "--yes")
    assert result.exit_code == 0, result.output


def test_an_issued_month_of_all_regions_is_exported_and_ties_out(stage: TwoRegions, tmp_path: Path) -> None:
    issued(stage)
    answer = exported("focus", "--month", MONTH, "--output", str(tmp_path / "october"))
    assert (answer["state"], answer["version"], answer["written"]) == ("issued", "1.4", True)
    assert [row["dataset"] for row in answer["rows"]] == ["CostAndUsage", "InvoiceDetail", "BillingPeriod"]
    (tie,) = answer["tie_out"]
    assert (tie["document"], tie["equal"], tie["document_usd"]) == (ID, True, "72.00")
    rows = rows_of(tmp_path / "october", "RegionId, SubAccountId, sum(BilledCost)")
    assert rows == [("eu-west-1", OTHER, Decimal("18.00")), ("us-east-1", PAYER, Decimal("54.00"))]


def test_the_same_export_again_changes_nothing_and_says_so(stage: TwoRegions, tmp_path: Path) -> None:
    issued(stage)
    line = ("cur", "--month", MONTH, "--output", str(tmp_path / "cur"))
    assert exported(*line)["written"]
    again = export(*line)
    assert again.exit_code == 0
    assert not json.loads(again.stdout)["written"]
    assert "holds this export already" in again.stderr


def test_a_draft_says_on_stderr_that_it_is_one(stage: TwoRegions, tmp_path: Path) -> None:
    result = export("focus", "--version", "1.2", "--month", MONTH, "--output", str(tmp_path / "draft"))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["state"] == "draft"
    assert "invoice ids are provisional" in " ".join(result.stderr.split())
    assert "eu-west-1: 2026-10 is not closed there" in " ".join(result.stderr.split())
    assert rows_of(tmp_path / "draft", "InvoiceId") == [(ID,)]


def test_lines_are_cut_into_resources_of_every_region(stage: TwoRegions, tmp_path: Path) -> None:
    issued(stage)
    line = ("--month", MONTH, "--payer", PAYER, "--detail", "resource_id", "--output", str(tmp_path / "cut"))
    exported("focus", *line)
    assert rows_of(tmp_path / "cut", "ResourceId, ResourceType, sum(BilledCost)") == [("i-0abc", "Instance", BILLED)]


def test_charges_are_split_by_causes_in_every_region(stage: TwoRegions, tmp_path: Path) -> None:
    """No causes are kept, so all bytes are unattributed."""
    issued(stage)
    answer = exported(
        "focus", "--month", MONTH, "--payer", PAYER, "--detail", "causes", "--output", str(tmp_path / "causes")
    )
    assert rows_of(tmp_path / "causes", "AllocatedMethodId, AllocatedResourceId, sum(BilledCost)") == [
        ("metering:bytes-by-line:1", None, BILLED)
    ]
    export_of = json.loads((tmp_path / "causes" / "manifest.json").read_text())["export"]
    assert (export_of["detail"], export_of["owners"]) == (["resource_id", "causes"], 0)
    assert answer["month"] == MONTH


def test_files_of_csv_by_month_are_packed(stage: TwoRegions, tmp_path: Path) -> None:
    issued(stage)
    line = ("focus", "--month", MONTH, "--files", "csv", "--grain", "month")
    answer = exported(*line, "--output", str(tmp_path / "csv"))
    assert (answer["format"], answer["grain"]) == ("csv", "month")
    assert sorted(path.name for path in (tmp_path / "csv").iterdir())[0] == "BillingPeriod-00000.csv.gz"


def test_a_place_with_something_else_is_refused(stage: TwoRegions, tmp_path: Path) -> None:
    issued(stage)
    (tmp_path / "mine.txt").write_text("mine")
    told = refused_export("focus", "--month", MONTH, "--output", str(tmp_path))
    assert "is not empty (mine.txt); nothing was written" in told


def test_usage_without_a_price_is_named_and_strict_writes_nothing(stage: TwoRegions, tmp_path: Path) -> None:
    line = {**record(7, start_s=OCTOBER_S, account=PAYER), "usage_type": "Nobody-Sells-It"}
    stage.send(HOME, line)
    lax = export("focus", "--month", MONTH, "--output", str(tmp_path / "lax"))
    assert lax.exit_code == 0, lax.output
    assert "for it has no price: 7 bytes of Nobody-Sells-It" in " ".join(lax.stderr.split())
    strict = export("focus", "--month", MONTH, "--strict", "--output", str(tmp_path / "strict"))
    assert strict.exit_code == 1
    assert "Nobody-Sells-It; nothing was written" in " ".join(strict.stderr.split())
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("prefix", ["", "/lake/dt=2026-10-01", "/closed/", "/exports/october"])
def test_a_place_in_a_bucket_of_the_service_is_refused(stage: TwoRegions, prefix: str) -> None:
    for region in stage.regions.values():
        told = refused_export("focus", "--month", MONTH, "--output", f"s3://{region.names.data_bucket}{prefix}", code=2)
        assert "in the data bucket of the service" in told


def test_a_month_without_charges_is_an_error_and_no_folder(stage: TwoRegions, tmp_path: Path) -> None:
    told = refused_export("focus", "--month", "2026-09", "--output", str(tmp_path / "none"))
    assert "Nobody has a charge in 2026-09." in told
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("line", "why"), [
    (("focus", "--version", "1.3"), "There is no export of FOCUS 1.3."),
    (("focus", "--grain", "week"), "week is no grain."),
    (("focus", "--files", "xml"), "xml is no format of exports."),
    (("focus", "--detail", "bytes", "--payer", PAYER), "There is no detail bytes."),
    (("focus", "--detail", "causes", "--version", "1.2", "--payer", PAYER), "FOCUS 1.2 has no columns for causes."),
    (("focus", "--detail", "resource_id"), "--detail reads the rows of one payer's accounts."),
    (("focus", "--payer", "12"), "12 is no account."),
    (("cur", "--month", "2026-13"), "2026-13 is not a month."),
    (("cur", "--output", "s3:///key"), "s3:///key names no bucket."),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_read(line: tuple[str, ...], why: str) -> None:
    name, *options = line
    given = {"--month": MONTH, "--output": "out"} | dict(zip(options[::2], options[1::2], strict=True))
    assert why in refused_export(name, *(word for option in given.items() for word in option), code=2)
