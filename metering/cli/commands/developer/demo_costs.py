"""Two acts of `metering demo`: real lines priced as AWS billed them, and a made-up network's log with its causes."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from metering.adapters.folders import FolderLogStore
from metering.billing.invoices.composing import Tally
from metering.billing.money import cents_of, line_cost, quantity_of, rounded, usd_text
from metering.billing.owners import Owners
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.prices import store
from metering.billing.prices.book import PriceBook, Product
from metering.billing.rating import payer_prices
from metering.billing.rating.rater import rated_month
from metering.billing.usage.months import Sold
from metering.cli.commands.analyst.lake import NoDeadline
from metering.cli.commands.developer.demo_stage import Demo, limited, seen, tell
from metering.cli.commands.operator.verify import rollup_of, wait_until_settled
from metering.cli.failures import CommandFailedError
from metering.cli.printing.output import Format, write_answer
from metering.hours import hour_of, month_of
from metering.onramps import sources
from metering.onramps.context import inventory
from metering.onramps.context.store import ContextStore
from metering.onramps.ingest.outcomes import RunTotals, outcome_of_taken
from metering.replay.given import BilledLine, billed_lines
from metering.replay.network import OWNER, PARTNER, SLOT_S, LogFile, SmallNetwork, replica
from metering.reports import source
from metering.reports.answer import KEEP, ROOMY, Answer, ListedRows, copied, integer, money
from metering.reports.operators.ingest_answer import hint, totals_answer
from metering.reports.query import UsageQuery
from metering.reports.who import WhoParameters
from metering.units import DAY_S, HOUR_S
from metering.usage.usage_types import is_processing
from metering.wiring import billing
from metering.wiring.answers.usage import measured_completeness
from metering.wiring.answers.who import who_of
from metering.wiring.biller import connected_biller
from metering.wiring.onramps import build_ingest
from metering.wiring.reports import build_verifier

# This window is longer than the month that the real lines cover.
_WINDOW_S = 36 * DAY_S
_TOP = 5
_PAYER = "999999999999"
_BY_RATE_CODE = ListedRows(
    copied("rate_code", title="SKU, term and rate", priority=KEEP),
    copied("usage_type", title="usage type", priority=ROOMY),
    integer("lines"),
    money("price_usd", title="USD a GB"),
    money("cost_usd", title="USD", priority=KEEP),
)


def show_costs(demo: Demo) -> None:
    """Price the real lines at AWS's rate codes, and again as if they were the only usage."""
    lines, book = billed_lines(), store.sample_book()
    metered = seen("reading what was metered", lambda: _metered(demo, lines))
    sent: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        sent[_key(line)] += line.bytes
    if metered != sent:
        raise CommandFailedError("What was metered is not what AWS billed.", "Run the demo again.")
    right = sum(is_right(line, book) for line in lines)
    write_answer(_by_rate_code(lines), Format.TABLE, None)
    tell(
        f"{right} of {len(lines)} lines: SKU found by service and usage type, quantity and cost equal to AWS's bill "
        "to the last digit."
    )
    if right != len(lines):
        raise CommandFailedError(f"{len(lines) - right} lines differ from AWS's bill.")
    tell("")
    drafted_cents, drafted = seen("rating", lambda: _draft(demo, lines))
    billed = sum(line.cost for line in lines)
    cents, exact = usd_text(drafted_cents, decimals=2), usd_text(rounded(drafted))
    tell(f"A draft of these lines: {cents} USD; before its lines are rounded to cents, {exact}.")
    tell(
        f"Alone, these lines lie within the free 100 GB; AWS billed {usd_text(billed)[:4]} because of usage that is "
        "not in the sample."
    )


def _key(line: BilledLine) -> tuple[str, ...]:
    return line.account_id, line.service, line.usage_type, line.from_location, line.to_location


def _metered(demo: Demo, lines: Iterable[BilledLine]) -> Counter[tuple[str, ...]]:
    """Bytes in the usage table for the bill's accounts, in the hours to which the lines were shifted."""
    query = UsageQuery(
        from_s=hour_of(demo.now_s - _WINDOW_S),
        to_s=hour_of(demo.now_s) + HOUR_S,
        accounts=frozenset(line.account_id for line in lines),
    )
    found: Counter[tuple[str, ...]] = Counter()
    for key, total in source.UsageTable(items=demo.region.items).usage(query, now_s=demo.now_s):
        found[key.account_id, key.service, key.usage_type, key.from_location, key.to_location] += total.bytes
    return found


def is_right(line: BilledLine, book: PriceBook) -> bool:
    """Whether the book assigns the line's SKU and rate code, and yields AWS's quantity and cost."""
    product = payer_prices.find(book, Sold(line.service, line.usage_type))
    if not isinstance(product, Product) or product.sku != line.sku:
        return False
    prices = {tier.rate_code: tier.price for version in product.versions for tier in version.tiers}
    prices |= {each.rate_codes[line.sku]: 0 for each in book.allowances if line.sku in each.rate_codes}
    price = prices.get(line.rate_code)
    return price is not None and (quantity_of(line.bytes), line_cost(line.bytes, price)) == (line.quantity, line.cost)


def _by_rate_code(lines: Iterable[BilledLine]) -> Answer:
    """Sums of lines by usage type, rate code and price, with the highest cost first."""
    sums: dict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0])
    for line in lines:
        entry = sums[line.usage_type, line.rate_code, line.price]
        entry[0] += 1
        entry[1] += line.cost
    rows = sorted(sums.items(), key=lambda row: -row[1][1])
    return _BY_RATE_CODE.answer(
        [
            (rate_code, usage_type, count, Decimal(usd_text(price)).normalize(), Decimal(usd_text(cost)))
            for (usage_type, rate_code, price), (count, cost) in rows[:_TOP]
        ],
        title="The real lines by SKU and rate code, as AWS billed them",
        footer=(f"and {len(rows) - _TOP} more. Together: {usd_text(sum(entry[1] for entry in sums.values()))} USD.",),
    )


def _draft(demo: Demo, lines: Iterable[BilledLine]) -> tuple[int, int]:
    """Rate the demo's months for one payer with all the lines' accounts; returns sums of cents and of exact costs."""
    accounts = frozenset(line.account_id for line in lines)
    payer = Payer(
        payer_id=_PAYER,
        name="The real lines",
        issuer="metering",
        members=tuple(Membership(account_id, 0, None) for account_id in sorted(accounts)),
    )
    organization, prices = Organization(payers=(payer,)), payer_prices.PayerPrices(store.sample_book(), _PAYER)
    cents = exact = 0
    for month in sorted({month_of(demo.now_s - age_s) for age_s in range(0, _WINDOW_S, DAY_S)}):
        tally = Tally()
        with billing.month_usage([demo.region], month, organization, accounts=accounts) as usage:
            tally.add(month, rated_month(prices, usage.of(_PAYER)))
        own, _ = tally.lines(month)
        cents += sum(cents_of(line.exact) for line in own)
        exact += sum(line.exact for line in own)
    return cents, exact


_LINES = 5_000
_BEFORE_S = 2 * HOUR_S
_WAIT_S = 240
_NAT_USAGE = "USW2-NatGateway-Bytes"


def meter_log(demo: Demo) -> None:
    """Ingest a VPC's log and a copy of it, and compare the totals with the synthetic network's byte count."""
    first_s = (demo.now_s - _BEFORE_S) // SLOT_S * SLOT_S
    network = SmallNetwork(demo.seed, first_s)
    file = seen("making traffic", lambda: network.file(_LINES))
    ContextStore(demo.region.objects).put(inventory.context_of(network.description(demo.now_s), hour_of(first_s)))
    totals = seen("reading the log and its copy", lambda: _taken(demo, file))
    limited("waiting", lambda: wait_until_settled(build_verifier(demo.region), _WAIT_S, rollup=rollup_of(demo.region)))
    write_answer(totals_answer(totals, dry_run=False, with_context=True), Format.TABLE, None)
    if why := hint(totals, with_context=True):
        tell(why)
    moved, counted = (file.metered_bytes, file.processed_bytes), _counted_bytes(demo, first_s)
    tell(
        f"The network moved {moved[0]:,} bytes by its own count, of which its gateways and endpoints processed "
        f"{moved[1]:,}; the totals have {counted[0]:,} and {counted[1]:,}."
    )
    tell("A copy of the file in another folder, compressed anew, came as well, and was not counted again.")
    if counted != moved or totals.failed or totals.files["repeated"] != 1:
        raise CommandFailedError("The log and the totals differ.", "The balance of the file is listed above.")
    _show_causes(demo, file)


def _show_causes(demo: Demo, file: LogFile) -> None:
    """Compare the causes of the NAT gateways' bytes with the network's own count."""
    region, jobs = demo.region, demo.region.jobs
    seen("compacting", lambda: jobs.compactor_of(jobs.policy.everything()).run(NoDeadline()))
    biller = connected_biller(region, [region])
    keeper = biller.causes
    if keeper is None:
        raise CommandFailedError("The biller keeps no causes.")
    seen("adding up causes", lambda: keeper.keep(NoDeadline(), biller.keeper.keep(NoDeadline())))
    tell(f"\nmetering who --path nat_gateway --usage-type {_NAT_USAGE} --group-by workload,destination --top {_TOP}")
    write_answer(_causes(demo, top=_TOP), Format.TABLE, None)
    found = {
        (str(row["workload"]), str(row["destination"])): int(str(row["bytes"])) for row in _causes(demo, top=None).rows
    }
    tell(
        f"By the network's own count, {len(file.nat_bytes)} pairs of workload and destination moved "
        f"{sum(file.nat_bytes.values()):,} bytes through its NAT gateways; the causes have {len(found)} pairs and "
        f"{sum(found.values()):,} bytes, and are {'equal' if found == file.nat_bytes else 'DIFFERENT'}."
    )
    if found != file.nat_bytes:
        raise CommandFailedError("The causes differ from the network's own count.", "The causes are listed above.")


def _causes(demo: Demo, *, top: int | None) -> Answer:
    filters = {"path": ["nat_gateway"], "usage_type": [_NAT_USAGE]}
    asked = WhoParameters(last="6h", group_by="workload,destination", filters=filters, top=top)
    now_s = int(time.time())
    return who_of(
        [demo.region], asked.who_query(now_s=now_s), owners=Owners(), now_s=now_s,
        complete=measured_completeness([demo.region]),
    )  # fmt: skip


def _taken(demo: Demo, file: LogFile) -> RunTotals:
    """Ingest the file, and a copy of it that is compressed again and stored in another folder."""
    region, totals = demo.region, RunTotals()
    ingest = build_ingest(
        region, bucket=region.names.data_bucket, window_s=region.settings.window_s, contexts=None, causes=True
    )
    with TemporaryDirectory() as folder:
        for each in (file, replica(file)):
            path = Path(folder) / each.bucket / each.key
            path.parent.mkdir(parents=True)
            path.write_bytes(each.body)
            taken = ingest.take(FolderLogStore(Path(folder)), f"{each.bucket}/{each.key}", bills=sources.SHARED_SUBNETS)
            totals.add(outcome_of_taken(taken, len(each.body)))
    return totals


def _counted_bytes(demo: Demo, first_s: int) -> tuple[int, int]:
    """Bytes of transfer and of processing in the usage table, for the accounts of the synthetic network."""
    query = UsageQuery(
        from_s=hour_of(first_s - DAY_S), to_s=hour_of(demo.now_s) + HOUR_S, accounts=frozenset((OWNER, PARTNER))
    )
    sums = {True: 0, False: 0}
    for key, total in source.UsageTable(items=demo.region.items).usage(query, now_s=demo.now_s):
        sums[is_processing(key.usage_type)] += total.bytes
    return sums[False], sums[True]
