"""Commands about money, and their permissions: prices, payers, a closed month, its cost, invoice and export."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from metering.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.e2e.conftest import ClosedMonth, Service

PAYER = "990000000099"
BOOK = "acme"


@pytest.fixture(scope="module")
def book_file(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A price book file, to import under a new name.

    Usage without a price blocks a payer's invoice, and other tests send all kinds of usage, so the price book declares
    all other usage as not sold.
    """
    shown = service.run("reader", "prices", "show", "--prices", "sample", "--as-file")
    assert shown.returncode == 0, shown.stderr
    path = tmp_path_factory.mktemp("money") / "book.json"
    value = json.loads(shown.stdout)
    rest = {"pattern": ".*", "why": "Other tests send it."}
    path.write_text(json.dumps({**value, "book": BOOK, "not_sold": [*value["not_sold"], rest]}))
    return path


@pytest.fixture(scope="module")
def book(service: Service, book_file: Path) -> str:
    """The book, imported."""
    done = service.run("operator", "prices", "import", str(book_file), "--book", BOOK, "--reprice")
    assert done.returncode == 0, done.stderr
    return BOOK


@pytest.fixture(scope="module")
def payers(service: Service, closed_month: ClosedMonth, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A payer of the closed month's two accounts."""
    path = tmp_path_factory.mktemp("payers") / "payers.json"
    accounts = [{"id": each, "payer": PAYER, "from": "2024-01-01T00:00:00Z"} for each in closed_month.spenders]
    value = {"payers": [{"id": PAYER, "name": "Acme", "issuer": "Acme Cloud"}], "accounts": accounts}
    path.write_text(json.dumps(value))
    assert service.ask("operator", "organization", "set", str(path))["rows"]
    return PAYER


def test_a_closed_month_becomes_a_cost_an_invoice_and_an_export_and_all_are_one_sum(
    service: Service, closed_month: ClosedMonth, book: str, payers: str
) -> None:
    of_month = ("--month", closed_month.month, "--prices", book)
    cost: dict[str, Any] = service.ask("reader", "cost", *of_month, "--payer", payers, "--group-by", "account_id,tier")
    assert {row["tier"].split(" (")[0] for row in cost["rows"]} == {"free", "tier 1", "tier 2"}
    assert sum(int(row["bytes"]) for row in cost["rows"]) == closed_month.spent_gb * GIB
    # 100 GB are free; the next 10,240 GB cost 0.09 each, and the rest 0.085.
    assert cost["total_usd"] == "1062.70"

    invoice_id = f"{payers}-{closed_month.month}-1"
    issued = service.ask("operator", "invoice", "issue", *of_month, "--payer", payers, "--yes")
    assert [(row["id"], row["state"]) for row in issued["rows"]] == [(invoice_id, "issued")]
    again = service.ask("operator", "invoice", "issue", *of_month, "--payer", payers, "--yes")
    assert [row["state"] for row in again["rows"]] == ["issued before"]
    assert service.run("operator", "invoice", "verify", invoice_id).returncode == 0
    assert json.dumps(service.ask("reader", "invoice", "show", invoice_id)).count("1062.70") >= 1

    bucket = f"acme-bills-{uuid.uuid4().hex[:8]}"
    service.clients.s3.create_bucket(Bucket=bucket)
    place = f"s3://{bucket}/focus"
    done = service.run(
        "deployer", "export", "focus", "--month", closed_month.month, "--payer", payers, "--output", place
    )
    assert done.returncode == 0, done.stderr
    names = [each["Key"] for each in service.clients.s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert "focus/manifest.json" in names
    manifest = json.loads(service.clients.s3.get_object(Bucket=bucket, Key="focus/manifest.json")["Body"].read())
    assert [(each["exact_usd"], each["equal"]) for each in manifest["tie_out"]] == [("1062.70", True)]


@pytest.mark.parametrize(
    "words",
    [
        ("prices", "import", "{book}", "--book", BOOK, "--reprice"),
        ("organization", "set", "{payers}"),
        ("owners", "put", "{owners}"),
        ("invoice", "issue", "--month", "{month}", "--prices", "sample", "--yes"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_reader_may_not_write_prices_payers_owners_or_invoices(
    service: Service, closed_month: ClosedMonth, book_file: Path, words: Sequence[str], tmp_path: Path
) -> None:
    if not service.enforced:
        pytest.skip("nothing is denied here: IAM is not enforced")
    changed = book_file.read_text().replace('"0.0900000000"', '"0.0800000000"')
    assert changed != book_file.read_text()
    (tmp_path / "book.json").write_text(changed)
    (tmp_path / "payers.json").write_text(json.dumps({"payers": [], "accounts": []}))
    (tmp_path / "owners.json").write_text(json.dumps({"rule": []}))
    files = {name: tmp_path / f"{name}.json" for name in ("book", "payers", "owners")}
    before = money(service)
    done = service.run("reader", *(word.format(**files, month=closed_month.month) for word in words))
    assert done.returncode == 1
    assert "denied" in done.stderr or "not authorized" in done.stderr
    assert "Traceback" not in done.stderr
    assert money(service) == before


PREFIXES = ("prices/", "organization/", "owners/", "invoices/")


def money(service: Service) -> list[str]:
    """Every object of prices, payers, owners and invoices."""
    s3, bucket = service.clients.s3, service.outputs["DataBucketName"]
    listed = [s3.list_objects_v2(Bucket=bucket, Prefix=each) for each in PREFIXES]
    return [each["Key"] for answer in listed for each in answer.get("Contents", ())]
