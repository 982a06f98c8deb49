"""Budgets are parsed from text; an invalid budget is refused, with all its problems at once."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.billing.budgets.biller import MOST_MESSAGES
from metering.billing.budgets.budget import (
    MOST_THRESHOLDS,
    BudgetRefusedError,
    Scope,
    amount_of,
    budget_of,
    threshold_of,
)
from metering.billing.budgets.evaluation import AnomalyRules, anomalies_of, is_unusual
from metering.billing.causes.days import put_pieces, summed, table_of
from metering.billing.causes.index import CauseIndex, CauseIndexes
from metering.billing.day_sums.days import DayAddition, SummedMonth, day_body, digest_of, empty_day
from metering.billing.day_sums.index import DayIndex, DayIndexes
from metering.billing.money import EXACT_A_USD
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.prices.book import Override
from metering.billing.prices.store import Overrides, sample_book
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.rating.rater import rated_month
from metering.billing.usage.months import line_of
from metering.errors import LedgerCorruptError
from metering.ledger.booked_hours import LakeFile
from metering.ledger.notes.money import StoredBudget
from metering.stores.objects import rated_day_key
from metering.stores.writes import Put, Table
from metering.units import DAY_S, GIB, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.budget_world import GB, REGION, BudgetWorld
from tests.support.lake_world import ACCOUNT, NOW_S, record
from tests.support.priced import ListedUsage, allowance, book, exact_total, product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.billing.budgets.open_months import PayerCosts

WHO = Scope(account="123456789012")


def problems(**fields: object) -> tuple[str, ...]:
    given: dict[str, object] = {"name": "egress", "amount": "1 USD", "thresholds": ["actual 80%"], "scope": WHO}
    given |= fields
    name = given.pop("name")
    with pytest.raises(BudgetRefusedError) as refused:
        budget_of(name, **given)  # type: ignore[arg-type]  # what no person should type
    return refused.value.problems


@pytest.mark.parametrize(("text", "unit", "value", "said"), [
    ("500 USD", "USD", 500 * EXACT_A_USD, "500 USD"),
    ("0.0000000001 usd", "USD", EXACT_A_USD // 10**10, "0.0000000001 USD"),
    ("0010.50 USD", "USD", 21 * EXACT_A_USD // 2, "10.5 USD"),
    ("10 TB", "bytes", 10 * 2**40, "10 TB"),
    ("4096 bytes", "bytes", 4096, "4096 bytes"),
    ("99999999999999999999 bytes", "bytes", 10**20 - 1, "99999999999999999999 bytes"),
])  # fmt: skip
def test_an_amount_has_one_spelling(text: str, unit: str, value: int, said: str) -> None:
    amount = amount_of(text)
    assert (amount.unit, amount.value, amount.text) == (unit, value, said)
    assert amount_of(amount.text) == amount


@pytest.mark.parametrize(("text", "said"), [
    ("actual 80%", "actual 80%"),
    (" forecast  100% ", "forecast 100%"),
    ("actual 99.50%", "actual 99.5%"),
    ("actual 0.001%", "actual 0.001%"),
    ("actual 250%", "actual 250%"),
    ("actual 5 USD", "actual 5 USD"),
    ("forecast 10 GB", "forecast 10 GB"),
])  # fmt: skip
def test_a_threshold_has_one_spelling(text: str, said: str) -> None:
    threshold = threshold_of(text)
    assert threshold.text == said
    assert threshold_of(said) == threshold


@pytest.mark.parametrize(
    "text", ["80%", "actual", "actual 80", "actual 0%", "actual -5%", "actual 1.2345%", "actual 0 USD", "guess 5%", ""]
)
def test_a_threshold_that_is_none_is_refused(text: str) -> None:
    assert problems(thresholds=[text])


def test_a_threshold_is_reached_by_the_very_amount_and_not_by_less() -> None:
    """The threshold is exactly 90 % of 1 USD, to the last digit of an exact cost."""
    for threshold in map(threshold_of, ("actual 90%", "actual 0.9 USD")):
        assert threshold.crossed(9 * EXACT_A_USD // 10, EXACT_A_USD)
        assert not threshold.crossed(9 * EXACT_A_USD // 10 - 1, EXACT_A_USD)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    scope = Scope(payer="1234", account="12345678901x")
    texts = {"name": "No Name", "amount": "0 USD", "period": "year", "severity": "loud"}
    said = problems(**texts, scope=scope, thresholds=["actual 5 TB", "soon"])
    assert len(said) == 7
    assert "the payer '1234' is not an account id of 12 digits" in said


@pytest.mark.parametrize(("fields", "why"), [
    ({"scope": Scope()}, "it is about nothing"),
    ({"thresholds": []}, "nobody would hear"),
    ({"thresholds": [f"actual {percent}%" for percent in range(1, MOST_THRESHOLDS + 2)]}, "at most"),
    ({"thresholds": ["actual 80%", "actual 80.0%"]}, "the threshold 'actual 80%' is given twice"),
    ({"thresholds": ["actual 5 TB"]}, "is in bytes, and the budget in USD"),
    *(({"amount": f"{size} {unit}"}, "is 0") for size, unit in (("0", "USD"), ("0.00", "USD"), ("0", "TB"))),
    *(({"amount": amount}, "below 0") for amount in ("-5 USD", "-1 TB")),
    *(({"amount": f"{size} USD"}, "not a price") for size in ("1e400", "NaN", "1.00000000001")),
    *(({"amount": amount}, "not an amount") for amount in ("5 EUR", "five", "", "5")),
])  # fmt: skip
def test_a_budget_that_makes_no_sense_is_refused(fields: dict[str, object], why: str) -> None:
    assert why in problems(**fields)[0]


def test_a_budget_comes_back_as_it_was_set_until_it_is_removed() -> None:
    world = BudgetWorld()
    scope = Scope(payer="123456789012", region="us-east-1", usage_type="DataTransfer-Out-Bytes")
    thresholds = ["actual 80%", "forecast 9 USD"]
    made = budget_of("egress", amount="12.5 USD", thresholds=thresholds, scope=scope, period="day", severity="page")
    store = world.budgets()
    store.set(made)
    assert (store.list(), store.get("egress")) == ([made], made)
    store.remove("egress")
    assert (store.list(), store.get("egress")) == ([], None)


def test_a_stored_budget_that_makes_no_sense_is_named() -> None:
    world = BudgetWorld()
    broken = StoredBudget(name="egress", document={"amount": "1 USD"}, set_s=1)
    world.items.put(Put(table=Table.LEDGER, item=broken.to_item()))
    with pytest.raises(LedgerCorruptError, match="egress"):
        world.budgets().list()


# Costs computed from day sums equal costs computed from lines, to the last digit, wherever tiers and allowances end.
PAYER = "999999999999"
ACCOUNTS = ("111111111111", "222222222222", "333333333333")
TODAY = NOW_S - NOW_S % DAY_S
TIERS = (("10", "0.09"), ("25", "0.07"), (None, "0.03"))


class Priced:
    """A payer of three accounts, with prices whose tiers end after a few GB."""

    def __init__(self, seed: int, *overrides: Override, moves_s: int | None = None, apart: bool = True) -> None:
        draw = random.Random(seed)
        out = product("OUT", "DataTransfer-Out-Bytes", TIERS)
        pair = product("PAIR", "USE1-EU-AWS-Out-Bytes", ((None, "0.02"),))
        prices = replace(book((out, pair), allowance("3", "OUT")), name="aws-list")
        members = tuple(Membership(each, (moves_s or 0) * (each == ACCOUNTS[0]), None) for each in ACCOUNTS)
        payer = Payer(payer_id=PAYER, name="Payer", issuer="metering", members=members)
        organization = Organization(version=1, payers=(payer,), sha256="x")
        world = BudgetWorld(book=prices, organization=organization)
        world.overrides = Overrides(overrides=overrides)
        for _ in range(12):
            records = [
                record(
                    draw.randrange(1, 2 * GIB),
                    start_s=TODAY - draw.randrange(6) * DAY_S + draw.randrange(13) * HOUR_S,
                    account=draw.choice(ACCOUNTS),
                    to=draw.choice(("internet", "internet", "eu-west-1")),
                )
                for _ in range(4)
            ]
            world.send(records)
        world.compact_all()
        world.keep()
        self.lines = tuple(
            line_of(key, total)
            for key, total in world.visible().items()
            if organization.payer_of(key.account_id, key.hour_s) == PAYER
        )
        budgets = [world.set(f"of-{account}", scope=Scope(account=account)) for account in ACCOUNTS if apart]
        costs = world.months(*budgets).costs_of(PAYER, "2026-11")
        assert costs is not None
        self.costs: PayerCosts = costs
        self.prices = PayerPrices.of(prices, organization, PAYER, overrides)


@pytest.mark.parametrize(("overrides", "moves_s"), [
    ((), None),
    ((Override(account=ACCOUNTS[1], price=500_000_000, from_s=TODAY - 3 * DAY_S + 5 * HOUR_S),), None),
    ((Override(payer=PAYER, percent_off=10_000, from_s=TODAY - 2 * DAY_S),), None),
    ((Override(payer=PAYER, percent_off=10_000, from_s=TODAY - 2 * DAY_S + 7 * HOUR_S),), None),
    ((), TODAY - 2 * DAY_S + 7 * HOUR_S),
], ids=["plain", "override", "payer", "hour", "moves"])  # fmt: skip
@pytest.mark.parametrize("seed", range(6))
def test_costs_from_sums_are_those_of_the_lines(
    seed: int, overrides: tuple[Override, ...], moves_s: int | None
) -> None:
    priced = Priced(seed, *overrides, moves_s=moves_s)
    usage = ListedUsage(priced.lines)
    rated = list(rated_month(priced.prices, usage))
    whole = priced.costs.exact_of(Scope(payer=PAYER))

    assert whole == sum(each.exact for each in rated)
    for account in ACCOUNTS:
        of_account = sum(each.exact for each in rated if each.line.account_id == account)
        assert priced.costs.exact_of(Scope(account=account)) == of_account
    by_type = {each.line.usage_type for each in rated}
    assert sum(priced.costs.exact_of(Scope(usage_type=name)) for name in by_type) == whole
    assert priced.costs.exact_of(Scope(region=REGION)) == whole
    days = [TODAY - back * DAY_S for back in range(6)]
    assert sum(priced.costs.exact_of(Scope(payer=PAYER), [day_s]) for day_s in days) == whole


@pytest.mark.parametrize("seed", range(6))
def test_accounts_that_are_summed_together_have_the_prices_of_their_hours(seed: int) -> None:
    own = Override(payer=PAYER, percent_off=10_000, from_s=TODAY - 2 * DAY_S + 7 * HOUR_S)
    priced = Priced(seed, own, apart=False)
    assert priced.costs.exact_of(Scope(payer=PAYER)) == exact_total(priced.prices, ListedUsage(priced.lines))


def test_regions_that_have_one_key_share_the_line_that_a_tier_begins_in() -> None:
    both = (REGION, "eu-west-1")
    prices = replace(book((product("OUT", "DataTransfer-Out-Bytes", TIERS),)), name="aws-list")
    world, other = BudgetWorld(book=prices), BudgetWorld()
    for each in (world, other):
        each.use(8 * GIB, account=PAYER)
        each.keep()
    world.others = [other.sums("eu-west-1")]
    budgets = [world.set(f"of-{name}", scope=Scope(region=name)) for name in both]
    costs = world.months(*budgets).costs_of(PAYER, "2026-11")
    assert costs is not None
    parts = [costs.exact_of(Scope(region=name)) for name in both]
    assert sum(parts) == costs.exact_of(Scope()) == (10 * 9 + 6 * 7) * GIB * 10**8


def test_lines_are_read_of_the_hours_in_which_something_begins_and_of_no_others() -> None:
    priced = Priced(1)
    read: list[int] = []
    for region in priced.costs.usage.regions:
        original = region.totals.of
        object.__setattr__(region, "totals", _Counting(original, read))
    priced.costs.exact_of(Scope(payer=PAYER))
    first = len(read)
    cuts = {cut.hour_s for sku in priced.costs.positions.skus.values() for cut in sku.cuts if cut is not None}
    assert first > 0
    read.clear()
    priced.costs.exact_of(Scope(payer=PAYER))
    assert set(read) <= cuts


class _Counting:
    def __init__(self, of: object, read: list[int]) -> None:
        self._of = of
        self._read = read

    def of(self, file: object) -> object:
        for key, total in self._of(file):  # type: ignore[operator]  # the method of a totals reader
            self._read.append(key.hour_s)
            yield key, total


# Unusual days: bytes far above the median of earlier weeks, with a cost that is high enough to report.
YESTERDAY = TODAY - DAY_S
NOISE = [90, 110, 100, 95, 105, 100, 98, 102]


@pytest.mark.parametrize(("size", "before", "unusual"), [
    (1_000, NOISE, True),
    (124, NOISE, False),
    (126, NOISE, True),
    (10, NOISE, False),
    (100, [100] * 8, False),
    (125, [100] * 8, False),
    (126, [100] * 8, True),
    (5, [0] * 8, True),
    (0, [0] * 8, False),
    (1_000, [1, 900, 1, 1_100, 1, 1_000, 1, 950], False),
    (1_000, [*NOISE[:-1], 1_000_000], True),  # one outlier in the past hides nothing
])  # fmt: skip
def test_a_day_is_unusual_if_it_is_far_above_the_median(size: int, before: list[int], unusual: bool) -> None:
    assert is_unusual(size, before) is unusual


def keep(
    world: BudgetWorld,
    days: Mapping[int, Mapping[str, int]],
    *,
    through_s: int = TODAY,
    processed: Mapping[int, int] | None = None,
) -> SummedMonth:
    """Day sums in the biller's form: day -> account -> GB of transfer, and `processed`, day -> GB of NAT gateways."""
    keys: dict[int, str] = {}
    for day_s, accounts in days.items():
        addition = DayAddition(empty_day(day_s))
        out = UsageType("DataTransfer-Out-Bytes"), Service("AmazonEC2"), "us-east-1", "internet"
        totals = [(UsageKey(day_s, account, *out), Total(gb * GB, 1)) for account, gb in accounts.items()]
        if size := (processed or {}).get(day_s):
            nat = UsageType("NatGateway-Bytes"), Service("AmazonEC2"), "us-east-1", "us-east-1"
            totals.append((UsageKey(day_s, ACCOUNT, *nat), Total(size * GB, 1)))
        addition.add(day_s, LakeFile(key=f"lake/{day_s}", rows=1, bytes=1), totals)
        body = day_body(addition.head(), addition.accounts(()))
        keys[day_s] = rated_day_key(day_s, digest_of(body))
        world.objects.put(keys[day_s], body, if_absent=False)
    index = DayIndex(number=1, counted_s=through_s + 3 * HOUR_S, complete_through_s=through_s, days=keys)
    DayIndexes(objects=world.objects).put(index)
    return SummedMonth(
        region=REGION, month="2026-11", index=index, objects=world.objects, totals=world.make_jobs().totals
    )


def weeks(last_gb: int, *, count: int = 8, account: str = ACCOUNT) -> dict[int, dict[str, int]]:
    return {YESTERDAY: {account: last_gb}} | {
        YESTERDAY - week * 7 * DAY_S: {account: NOISE[week - 1]} for week in range(1, count + 1)
    }


def test_an_unusual_day_is_found_with_what_is_usual_and_what_it_costs() -> None:
    month = keep(BudgetWorld(), weeks(1_100))
    [found] = anomalies_of(month, YESTERDAY, sample_book())
    assert (found.series.account_id, found.bytes, found.expected) == (ACCOUNT, 1_100 * GB, 100 * GB)
    assert found.excess == 1_000 * 9 * EXACT_A_USD // 100
    assert (found.weeks, found.kind.to_location) == (8, "internet")


def test_what_is_cheap_is_left_out_by_the_floor_and_of_few_weeks_nothing_is_said() -> None:
    month = keep(BudgetWorld(), weeks(200))
    assert anomalies_of(month, YESTERDAY, sample_book()) == []
    assert anomalies_of(month, YESTERDAY, sample_book(), AnomalyRules(floor=8 * EXACT_A_USD))
    assert anomalies_of(keep(BudgetWorld(), weeks(5_000, count=2)), YESTERDAY, sample_book()) == []


def test_a_new_account_is_unusual_if_it_is_dear() -> None:
    days = weeks(100) | {YESTERDAY: {ACCOUNT: 100, "999999999999": 5_000}}
    [found] = anomalies_of(keep(BudgetWorld(), days), YESTERDAY, sample_book())
    assert (found.series.account_id, found.expected) == ("999999999999", 0)


NAT = book(
    [
        product("NAT1", "NatGateway-Bytes", ((None, "0.045"),)),
        product("OUT1", "DataTransfer-Out-Bytes", ((None, "0.09"),)),
    ]
)


def test_processing_is_judged_by_weeks_that_have_it_and_by_three_of_them_at_least() -> None:
    before = {YESTERDAY - week * 7 * DAY_S: 100 for week in (1, 2, 3)}
    for weeks_with, found in ((0, 0), (2, 0), (3, 1)):
        known = dict([*before.items()][:weeks_with])
        month = keep(BudgetWorld(), weeks(100), processed={YESTERDAY: 9_000, **known})
        unusual = anomalies_of(month, YESTERDAY, NAT)
        assert [each.series.usage_type for each in unusual] == ["NatGateway-Bytes"] * found


def test_the_day_of_the_release_that_meters_processing_alerts_nobody() -> None:
    """On this day, an account has much processing, and no usage but that of the days before."""
    for usage_type, alerts in (("", 0), ("NatGateway-Bytes", 1)):
        world = BudgetWorld(book=NAT)
        world.set(amount="6000 GB", thresholds=["actual 80%", "forecast 100%"],
                  scope=Scope(account=ACCOUNT, usage_type=usage_type))  # fmt: skip
        billed(weeks(100), world=world, processed={YESTERDAY: 90_000})
        assert len(world.topic.sent) == alerts


def billed(
    days: Mapping[int, Mapping[str, int]],
    *,
    runs: int = 1,
    world: BudgetWorld | None = None,
    processed: Mapping[int, int] | None = None,
) -> BudgetWorld:
    """A region in which the biller ran `runs` times after the end of yesterday."""
    world = world or BudgetWorld()
    keep(world, days, processed=processed)
    world.complete_through(TODAY)
    world.clock.sleep_ms(4 * HOUR_S * 1000)
    for _ in range(runs):
        world.bill()
    return world


def test_one_message_for_a_series_and_day_however_often_the_job_runs() -> None:
    world = billed(weeks(1_100), runs=3)
    [alert] = world.topic.sent
    assert alert.subject == f"unusual usage: account {ACCOUNT}, DataTransfer-Out-Bytes on 2026-11-23"
    assert alert.fields["usual"] == "107,374,182,400 bytes = 100 GB (median of the same day of 8 weeks)"
    look = str(alert.fields["look"])
    assert "metering query --from 2026-11-23 --to 2026-11-24 --stage local --region us-east-1" in look
    assert "LIMIT 3" in look


def test_the_message_names_the_causes_that_grew_most_and_no_trouble_with_causes_delays_it() -> None:
    world, lost = BudgetWorld(), BudgetWorld()
    keep(world, weeks(1_100))
    bytes_of = {YESTERDAY: 2**40, YESTERDAY - 7 * DAY_S: 2**30}
    pieces = {}
    for day_s, size in bytes_of.items():
        key = (*("eni-nat", "DataTransfer-Out-Bytes", "i-1", "S3.us-west-2", "nat_gateway", "out", ACCOUNT),
               *("AmazonEC2", "us-east-1", "internet", "split", ""), day_s, day_s)  # fmt: skip
        pieces[day_s] = tuple(put_pieces(world.objects, day_s, summed([table_of([(*key, size)])])))
    for each in (world, lost):
        CauseIndexes(objects=each.objects).put(CauseIndex(number=1, days=pieces, counted_s=TODAY))
    [alert] = billed({}, world=world).topic.sent
    assert alert.fields["causes"] == (
        "since the week before, unowned: i-1 to S3.us-west-2 1,098,437,885,952 bytes = 1,023 GB more"
    )
    who = str(alert.fields["who"])
    assert who.startswith("metering who --group-by owner,workload,destination --account ")
    assert "--from 2026-11-23 --to 2026-11-24 --stage local --region us-east-1" in who

    [alert] = billed(weeks(1_100), world=lost).topic.sent
    assert "causes" not in alert.fields


def test_many_unusual_series_are_told_in_one_more_message() -> None:
    world = billed(weeks(100) | {YESTERDAY: {f"{number:012d}": 5_000 for number in range(1, MOST_MESSAGES + 6)}})
    assert len(world.topic.sent) == MOST_MESSAGES + 1
    assert sum(alert.fields.get("count") == "5" for alert in world.topic.sent) == 1


def test_a_day_is_looked_at_when_all_of_it_is_counted() -> None:
    world = BudgetWorld()
    keep(world, weeks(1_100), through_s=TODAY - HOUR_S)
    world.complete_through(TODAY - HOUR_S)
    world.bill()
    assert not world.topic.sent
