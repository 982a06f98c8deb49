"""Causes of usage: exact parts of it, names of the rows' own hours, hidden names."""

from __future__ import annotations

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.audit.freshness import Complete
from metering.billing.causes.days import COLUMNS
from metering.billing.causes.index import CauseIndex, CauseIndexes, CausePin
from metering.billing.causes.names import CauseNames
from metering.billing.owners import Owners, OwnerStore, read_owners
from metering.errors import LedgerCorruptError, OperationFailedError, UnavailableError
from metering.reports.answer import encoded_bytes
from metering.reports.query import WHO_COLUMNS
from metering.reports.time_range import InvalidParametersError
from metering.reports.who import WhoParameters
from metering.reports.who_sums import CauseSource
from metering.units import DAY_S, HOUR_S
from metering.wiring.answers.who import closed_owners, owners_of, who_of
from tests.api.world import WorldRegion
from tests.support.kept_causes import NAT, NAT_BYTES, keep_causes, record_of, row, stretch, unnamed
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.billing.causes.names import Stretch
    from metering.reports.answer import Answer
    from tests.support.kept_causes import Row

OTHER, OUT = "210987654321", "DataTransfer-Out-Bytes"
COMPLETE = Complete(through_s=NOW_S, held_back_by=())
NAMES = {
    "i-0abc": [stretch(workload="asg:ci", team="ci")],
    "i-0def": [stretch(workload="ecs:prod/indexer", team="search")],
    "i-0far": [stretch(workload="asg:secret", account=OTHER, team="search")],
}
BOOK = b"""
[[rule]]
owner = "search"
when = { tag = { team = "search" } }
"""
SEARCH = read_owners(BOOK, "owners.toml")
ROWS = (
    row(60),
    row(25, cause="i-0def", destination="S3.us-west-2", basis="told"),
    row(5, cause="i-0def", destination="S3.us-west-2", basis="told", hour=HOUR - HOUR_S),
    row(7, cause="i-0far", basis="inventory"),
    unnamed(3, "ambiguous_address"),
    row(40, usage_type=OUT, basis="split", direction="out"),
)


def world_of(rows: Iterable[Row] = ROWS, names: Mapping[str, Iterable[Stretch]] = NAMES, **more: Any) -> World:
    """A region that has metered the records of these rows, and keeps their causes."""
    world = World()
    every = list(rows)
    world.send([record_of(each) for each in every])
    world.compact_all()
    keep_causes(world, every, names, **more)
    return world


def ask(world: World, owners: Owners = SEARCH, granted: frozenset[str] | None = None, **asked: Any) -> Answer:
    filters = {name: [value] for name, value in asked.pop("filters", {}).items()}
    query = WhoParameters(filters=filters, **asked).who_query(now_s=NOW_S)
    return who_of([WorldRegion(world)], query, owners=owners, now_s=NOW_S, complete=COMPLETE, granted=granted)


def lines(answer: Answer, *columns: str) -> list[tuple[object, ...]]:
    return [tuple(each[name] for name in columns) for each in answer.rows]


def totals_of(answer: Answer) -> list[dict[str, str]]:
    return cast("list[dict[str, str]]", answer.meta["totals"])


def test_unowned_comes_first_then_unattributed_then_the_most_bytes() -> None:
    answer = ask(world_of(), filters={"resource": NAT, "usage_type": NAT_BYTES})
    assert lines(answer, "owner", "workload", "destination", "reason", "bytes", "share") == [
        ("unowned", "asg:ci", "internet", "", 60, "60.0 %"),
        ("unattributed", "unattributed", "internet", "ambiguous_address", 3, "3.0 %"),
        ("search", "ecs:prod/indexer", "S3.us-west-2", "", 30, "30.0 %"),
        ("search", "asg:secret", "internet", "", 7, "7.0 %"),
    ]
    assert answer.meta["totals"] == [
        {"usage_type": NAT_BYTES, "bytes": "100", "told": "30", "seen": "60", "inventory": "7", "unattributed": "3"}
    ]
    assert answer.meta["unattributed"] == [{"usage_type": NAT_BYTES, "reason": "ambiguous_address", "bytes": "3"}]


def test_two_usage_types_are_never_added_up() -> None:
    """The same bytes of a gateway are processing and transfer."""
    answer = ask(world_of(), group_by="destination", filters={"resource": NAT})
    assert [column.name for column in answer.columns][:2] == ["usage_type", "destination"]
    assert Counter(str(each["usage_type"]) for each in answer.rows) == {NAT_BYTES: 3, OUT: 1}
    assert [each["bytes"] for each in totals_of(answer)] == ["100", "40"]


def test_the_rest_of_each_usage_type_is_one_row() -> None:
    answer = ask(world_of(), group_by="cause", top=1, filters={"resource": NAT})
    assert lines(answer, "usage_type", "cause", "bytes") == [
        (NAT_BYTES, "", 3), (NAT_BYTES, "others (3)", 97), (OUT, "i-0abc", 40),
    ]  # fmt: skip
    assert answer.meta["others"] == [{"usage_type": NAT_BYTES, "rows": 3, "bytes": "97"}]


def test_what_other_producers_sent_is_the_remainder() -> None:
    world = world_of()
    world.send([record(1_000), {**record(9), "usage_type": NAT_BYTES, "from": "us-west-2", "resource_id": "nat-other"}])
    answer = ask(world, group_by="owner")
    assert [(each["usage_type"], each["bytes"]) for each in answer.rows if each["reason"] == "other_usage"] == [
        (OUT, 1_000), (NAT_BYTES, 9),
    ]  # fmt: skip
    # Of one resource, what others sent is unknown.
    assert "other_usage" not in {each["reason"] for each in ask(world, filters={"resource": NAT}).rows}


def test_causes_of_more_bytes_than_the_usage_are_refused() -> None:
    world = World()
    world.send([record_of(row(59))])
    keep_causes(world, [row(60)])
    with pytest.raises(LedgerCorruptError, match="1 bytes more than its usage"):
        ask(world)


def test_without_a_question_the_resources_with_the_most_bytes_are_listed() -> None:
    world = world_of([*ROWS, *(row(number + 1, resource_id=f"nat-{number:02}") for number in range(12))])
    answer = ask(world)
    first, *_, last = lines(answer, "usage_type", "resource", "bytes", "named_bytes", "named")[:11]
    assert first == (NAT_BYTES, NAT, 100, 97, "97.0 %")
    assert last == (NAT_BYTES, "others (3)", 6, 6, "100.0 %")


def test_an_owner_is_the_owner_of_the_hour_and_not_of_now() -> None:
    """The tag moved at noon, and a second rule holds from the hour before on."""
    noon, day_s = HOUR - HOUR_S, HOUR - HOUR % DAY_S
    rows = [row(2**number, hour=HOUR - number * HOUR_S) for number in range(4)]
    names = {"i-0abc": [stretch(day_s, team="ads"), stretch(noon, team="search")]}
    owned = ask(world_of(rows, names), group_by="owner", filters={"resource": NAT})
    assert lines(owned, "owner", "bytes") == [("unowned", 4 + 8), ("search", 1 + 2)]
    book = b'[[rule]]\nowner = "late"\nwhen = { resource = "i-*" }\nfrom = 2026-11-24T12:00:00Z\n' + BOOK
    ruled = ask(
        world_of(rows, {"i-0abc": [stretch(day_s)]}),
        read_owners(book, "o.toml"),
        group_by="owner",
        filters={"resource": NAT},
    )
    assert lines(ruled, "owner", "bytes") == [("unowned", 4 + 8), ("late", 1 + 2)]


def test_a_correction_has_the_names_of_the_hour_that_it_corrects() -> None:
    own_hour = HOUR - 40 * DAY_S
    names = {"i-0abc": [stretch(workload="then"), stretch(HOUR - DAY_S, workload="now")]}
    world = World()
    world.send([{**record_of(row(5)), "start": "2026-11-24T13:00:00Z"}])
    keep_causes(world, [row(5, own_hour=own_hour)], names)
    assert lines(ask(world, group_by="workload"), "workload", "bytes") == [("then", 5)]


def test_a_rule_about_a_gateway_owns_what_has_no_cause() -> None:
    book = f'[[rule]]\nowner = "net"\nwhen = {{ resource = "{NAT}" }}\n'.encode()
    answer = ask(world_of(), read_owners(book, "o.toml"), group_by="owner,basis", filters={"usage_type": NAT_BYTES})
    assert ("net", "rule", 3) in lines(answer, "owner", "basis", "bytes")
    assert totals_of(answer)[0]["rule"] == "3"


def test_names_of_other_accounts_are_hidden() -> None:
    rows = [*ROWS, row(11, destination="asg:hidden"), row(13, destination="asg:ci")]
    world = world_of(rows)
    asked: dict[str, Any] = {
        "group_by": "owner,workload,cause,destination",
        "filters": {"account": ACCOUNT, "usage_type": NAT_BYTES},
    }
    answer = ask(world, granted=frozenset([ACCOUNT]), **asked)
    shown = lines(answer, "owner", "workload", "cause", "destination", "bytes")
    assert ("another account",) * 3 + ("internet", 7) in shown
    assert ("unowned", "asg:ci", "i-0abc", "another account", 11) in shown
    assert ("unowned", "asg:ci", "i-0abc", "asg:ci", 13) in shown
    assert not {"asg:secret", "i-0far", "asg:hidden"} & {each for line in shown for each in line}
    assert sum(int(str(line[-1])) for line in shown) == 124


def test_networks_that_people_named_are_names_of_no_account() -> None:
    hidden = ("subnet-0a1b2c3d", "eni-0a1b2c3d4e5f60718", "tgw-attach-0a1b2c3d4e5f60718", "elb:app/web")
    world = world_of([row(1, destination="datadog-eu.1"), *(row(2, destination=each) for each in hidden)])
    answer = ask(world, granted=frozenset([ACCOUNT]), group_by="destination", filters={"account": ACCOUNT})
    assert lines(answer, "destination", "bytes") == [("another account", 8), ("datadog-eu.1", 1)]


def test_a_filter_does_not_tell_a_hidden_name() -> None:
    world = world_of([row(7, cause="i-0far", destination="asg:hidden")])
    own = {"account": ACCOUNT, "destination": "another account"}
    assert lines(ask(world, granted=frozenset([ACCOUNT]), filters=own), "bytes") == [(7,)]
    for filters in ({"owner": "search"}, {"destination": "asg:hidden"}):
        assert not ask(world, granted=frozenset([ACCOUNT]), filters={**filters, "account": ACCOUNT}).rows
        assert ask(world, filters=filters).rows


def test_a_range_cuts_a_day_and_hours_have_their_zone() -> None:
    world = world_of()
    asked: dict[str, Any] = {"group_by": "hour", "filters": {"usage_type": NAT_BYTES, "resource": NAT}}
    answer = ask(world, start="2026-11-24T12:00:00Z", end="2026-11-24T13:00:00Z", **asked)
    assert lines(answer, "hour", "bytes") == [("2026-11-24T12:00:00Z", 5)]
    answer = ask(world, zone="Asia/Tokyo", start="2026-11-24", end="2026-11-25", **asked | {"group_by": "hour,day"})
    assert lines(answer, "hour", "day", "bytes")[0] == ("2026-11-24T22:00:00+09:00", "2026-11-24", 3)


def test_causes_of_before_a_restore_are_refused() -> None:
    world = World()
    index = keep_causes(world, [])
    CauseIndexes(objects=world.objects).put(replace(index, number=2, ledger_generation=7))
    with pytest.raises(OperationFailedError, match="restored"):
        ask(world)


def test_a_question_of_too_many_groups_is_refused() -> None:
    query = WhoParameters(group_by="cause").who_query(now_s=NOW_S)
    with pytest.raises(InvalidParametersError, match="more than 3 rows"):
        who_of([WorldRegion(world_of())], query, owners=SEARCH, now_s=NOW_S, complete=COMPLETE, most=3)


def test_causes_that_are_replaced_during_the_read_are_read_again() -> None:
    world = world_of()
    world.objects.delete(world.objects.keys("causes/days/"))
    with pytest.raises(UnavailableError, match="kept being replaced"):
        ask(world)


def test_every_problem_of_a_question_is_told() -> None:
    with pytest.raises(InvalidParametersError) as refused:
        WhoParameters(group_by="owner,colour", filters={"path": ["NAT"]}, top=0).who_query(now_s=NOW_S)
    assert [each.parameter for each in refused.value.problems] == ["group_by", "path", "top"]


def test_without_causes_all_usage_is_other_usage() -> None:
    world = World()
    world.send([record(5)])
    answer = ask(world)
    assert lines(answer, "usage_type", "resource", "bytes", "named") == [(OUT, "", 5, "0.0 %")]
    assert answer.meta["counted_through"] is None
    assert encoded_bytes(answer, "csv").decode().splitlines()[0].startswith("usage_type,resource,bytes")


_SOME = {
    "resource_id": st.sampled_from([NAT, "nat-1", "i-0abc"]), "usage_type": st.sampled_from([NAT_BYTES, OUT]),
    "cause": st.sampled_from(["i-0abc", "i-0def", "i-0far", "eni-unknown"]),
    "destination": st.sampled_from(["", "internet", "asg:ci"]), "path": st.sampled_from(["", "vpc", "nat_gateway"]),
    "direction": st.sampled_from(["in", "out"]), "account_id": st.sampled_from([ACCOUNT, OTHER]),
    "hour": st.integers(0, 30).map(lambda hours: HOUR - hours * HOUR_S), "basis": st.sampled_from(["told", "split"]),
}  # fmt: skip
_SIZES = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 100))


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    found = []
    for size in draw(st.lists(_SIZES, min_size=1, max_size=8)):
        values: dict[str, Any] = draw(st.fixed_dictionaries(_SOME))
        named = draw(st.booleans())
        found.append(
            row(size, **values) if named else unnamed(size, "no_detail", **{**values, "cause": "", "basis": ""})
        )
    return found


@pytest.mark.examples
@settings(max_examples=40, deadline=None)
@given(some_rows(), st.lists(st.sampled_from(WHO_COLUMNS), max_size=5), st.integers(1, 3), st.booleans())
def test_the_bytes_of_any_grouping_add_up_to_the_usage_report(
    rows: list[Row], columns: Sequence[str], top: int, hidden: bool
) -> None:
    world = world_of(rows)
    world.send([record(17)])
    usage = Counter({str(OUT): 17})
    for each in rows:
        known = dict(zip(COLUMNS, each, strict=True))
        if not hidden or known["account_id"] == ACCOUNT:
            usage[str(known["usage_type"])] += int(known["bytes"])
    asked: dict[str, Any] = {"group_by": ",".join(columns) or None, "top": top, "start": "2026-11"}
    granted = frozenset([ACCOUNT]) if hidden else None
    answer = ask(world, granted=granted, filters={"account": ACCOUNT} if hidden else {}, **asked)
    sums: Counter[str] = Counter()
    for shown in answer.rows:
        sums[str(shown["usage_type"])] += int(str(shown["bytes"]))
    assert +sums == +usage
    assert Counter({each["usage_type"]: int(each["bytes"]) for each in totals_of(answer)}) == sums


def test_sql_reads_the_parts_with_their_workloads() -> None:
    world = world_of([*ROWS, row(9, own_hour=HOUR - 40 * DAY_S)])
    sql = """SELECT workload, destination, sum(bytes), count(corrects) FROM causes
             WHERE usage_type = 'USW2-NatGateway-Bytes' AND basis <> '' GROUP BY ALL ORDER BY 3 DESC"""
    assert world.ask(sql) == [
        ("asg:ci", "internet", 69, 1), ("ecs:prod/indexer", "S3.us-west-2", 30, 0), ("asg:secret", "internet", 7, 0),
    ]  # fmt: skip
    assert world.ask("SELECT sum(bytes), any_value(region) FROM causes", to_s=HOUR) == [(5, "us-east-1")]
    [[rows, hours]] = world.ask("SELECT count(*), count(DISTINCT hour) FROM causes")
    assert (rows, hours) == (7, 2)
    # Nothing is read unless a statement asks for causes.
    world.objects.delete(world.objects.keys("causes/"))
    assert world.ask("SELECT count(*) FROM usage")


def test_a_closed_month_keeps_its_owners_and_its_rows() -> None:
    """The book changed after October was closed; a correction of October has October's owner."""
    october = HOUR - 30 * DAY_S
    rows = [row(8, hour=october), row(2), row(4, own_hour=october)]
    world = world_of(rows)
    store = OwnerStore(world.objects)
    for owner in ("then", "now"):
        store.put(read_owners(f'[[rule]]\nowner = "{owner}"\nwhen = {{ resource = "i-*" }}\n'.encode(), "o.toml"))
    index = CauseIndexes(objects=world.objects).newest()
    day_s = october - october % DAY_S
    pin = CausePin(month="2026-10", days={day_s: index.days[day_s]}, names={day_s: index.names[day_s]}, owners=1)
    world.objects.put(pin.key, pin.to_json(), if_absent=True)
    # A restored region's new index may lack days that are pinned.
    days = {each_s: pieces for each_s, pieces in index.days.items() if each_s != day_s}
    CauseIndexes(objects=world.objects).put(replace(index, number=2, days=days))
    region = WorldRegion(world)
    query = WhoParameters(group_by="owner", start="2026-10", end="2026-12").who_query(now_s=NOW_S)
    closed = closed_owners(region, query.usage, now_s=NOW_S)
    newest = owners_of(region, None)
    answer = who_of([region], query, owners=newest, closed=closed, now_s=NOW_S, complete=COMPLETE)
    assert lines(answer, "owner", "bytes") == [("then", 12), ("now", 2)]
    assert answer.meta["owners"] == {"version": 2, "closed": {"2026-10": 1}}
    answer = who_of([region], query, owners=newest, now_s=NOW_S, complete=COMPLETE)
    assert lines(answer, "owner", "bytes") == [("now", 14)]


def test_many_threads_get_the_names_of_the_day_that_they_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    source = CauseSource(region="us-east-1", objects=World().objects, index=CauseIndex())
    days = [day * DAY_S for day in range(40)] * 100

    def read(_objects: object, day_s: int, _key: str | None) -> CauseNames:
        time.sleep(0)
        return CauseNames(day_s, {})

    monkeypatch.setattr(CauseNames, "read", read)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert [names.day_s for names in pool.map(source.names, days)] == days
    finally:
        sys.setswitchinterval(before)
