"""Each check of the doctor is ok for a region that behaves as AWS documents, and can also have other results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count, cycle

import pytest

from metering.errors import MeteringError, ThrottledError, TransactionCanceledError, UnavailableError
from metering.ledger.markers import partition_of_batch
from metering.operations.doctor import catalogue as queues
from metering.operations.doctor.bench import (
    AlarmAction,
    BuiltRegion,
    CannotAskError,
    EndlessListingError,
    EngineHour,
    Observation,
    Pages,
    RefusedError,
    Verdict,
    examine,
)
from metering.operations.doctor.catalogue import CHECKS
from metering.stores.writes import Action, Put, Table, key_of
from metering.usage.totals import Total
from tests.support.memory.items import MemoryItemStore
from tests.unit.operations.doctor.bench import HOUR, MAPPING, Tables, World

NAMES = [check.name for check in CHECKS]


def seen(world: World, name: str) -> Observation:
    [check] = [check for check in CHECKS if check.name == name]
    [(_, observation)] = examine(world.bench(), [check], thorough=True)
    return observation


class Racing(Tables):
    """A table on which every third transaction conflicts with another transaction."""

    def __init__(self, meets: str = "TransactionConflict") -> None:
        super().__init__()
        self._calls, self._meets = count(1), meets

    def transact(self, actions: Sequence[Action]) -> None:
        if next(self._calls) % 3 == 0 and len(actions) == 2 and not isinstance(actions[0], Put):
            raise TransactionCanceledError([(self._meets, None), None])
        super().transact(actions)


def well() -> World:
    """A region in which every check is ok."""
    return World(items=Racing())


@pytest.mark.parametrize("name", NAMES)
def test_a_region_that_does_what_aws_documents_is_ok(name: str) -> None:
    observation = seen(well(), name)
    assert (observation.verdict, observation.advice) == (Verdict.OK, ""), observation
    assert observation.saw


@pytest.mark.parametrize("name", NAMES)
def test_a_check_tidies_up_what_it_made(name: str) -> None:
    world = well()
    before = world.objects.keys()
    known = {key_of(item) for item in world.items.everything(Table.LEDGER)}
    seen(world, name)
    assert world.objects.keys() == before
    left = {key_of(item).pk for item in world.items.everything(Table.LEDGER) if key_of(item) not in known}
    assert all(pk.startswith(partition_of_batch("")) for pk in left)


def test_a_restore_says_its_window_its_versions_and_its_cost() -> None:
    assert seen(World(), "restore-window").saw == "from 2026-10-14T11:06:40Z to 2026-11-18T11:01:40Z"
    assert seen(World(version_days=None), "versions-kept").saw == "deleted versions are kept for ever"
    # 100 GB at 0.15 USD.
    assert seen(World(), "restore-cost").saw.startswith("DynamoDB's copy of 100.0 GB: 15.00 USD")


def faulty(**faults: Callable[..., object]) -> World:
    """A region with a faulty bucket; each fault replaces a method, and gets that method as first argument."""
    world = World()
    for name, fault in faults.items():
        setattr(world.objects, name, partial(fault, getattr(world.objects, name)))
    return world


class Splitting(MemoryItemStore):
    """A table that applies a transaction's first put even if the rest fails."""

    def transact(self, actions: Sequence[Action]) -> None:
        first, *_ = actions
        if isinstance(first, Put):
            self.put(first)
        super().transact(actions)


class Careless(MemoryItemStore):
    """A table that ignores conditions."""

    def transact(self, actions: Sequence[Action]) -> None:
        super().transact([replace(action, condition=None) for action in actions if isinstance(action, Put)])


class Mute(MemoryItemStore):
    """A table whose cancellation reasons come from `reasons`."""

    def __init__(self, reasons: Callable[[TransactionCanceledError], list[tuple[str, None] | None]]) -> None:
        super().__init__()
        self._reasons = reasons

    def transact(self, actions: Sequence[Action]) -> None:
        try:
            super().transact(actions)
        except TransactionCanceledError as error:
            raise TransactionCanceledError(self._reasons(error)) from error


class Losing(Tables):
    """A table that acknowledges every transaction, but applies only every second transaction."""

    def __init__(self) -> None:
        super().__init__()
        self._applies = cycle((True, False))

    def transact(self, actions: Sequence[Action]) -> None:
        if next(self._applies):
            super().transact(actions)


def refusing(error: MeteringError) -> MemoryItemStore:
    """A table that refuses every transaction."""

    def fail(_call: str) -> None:
        raise error

    return MemoryItemStore(on_call=fail)


def endless(_keys: tuple[str, ...]) -> Pages:
    raise EndlessListingError("a listing had more than 50 pages")


def forgetful(keys: tuple[str, ...]) -> Pages:
    return Pages(keys=keys[1:], pages=1, empty=1)


RULES = World().rules
HEARD = World().actions[0]
REFUSED = AlarmAction("dead-letters", HEARD.at_s, False, "Failed to execute action arn:aws:sns:x")
ENGINE = EngineHour(usage=Total(500, 5), totals=Total(500, 5), rows=Total(500, 5), strange_times=0)
FAILED = "ConditionalCheckFailed"
SLOW = UnavailableError("dynamodb.X", "Slow", may_have_applied=False)
OTHER_REASONS = TransactionCanceledError([("TransactionConflict", None)])


def test_a_dropped_object_is_found_by_its_checksum_where_that_is_its_identity() -> None:
    assert seen(World(drop_identity="checksum"), "dropped-object").verdict is Verdict.OK


DIFFERENT: list[tuple[str, Callable[[], World], str]] = [
    ("missing-key", lambda: World(reader_denied=True), "403 to reader and operator"),
    ("large-put", lambda: faulty(put=lambda put, *args, if_absent: put(*args, if_absent=False)), "a second time"),
    ("large-put", lambda: faulty(get=lambda get, key: get(key)[:-1] + b"?"), "other bytes"),
    ("large-put", lambda: faulty(put=lambda put, *args, **how: not put(*args, **how)), "as if the object were there"),
    ("cancel-reasons", lambda: World(items=Splitting()), "other action"),
    ("cancel-reasons", lambda: World(items=Careless()), "was applied"),
    ("cancel-reasons", lambda: World(items=Mute(lambda _: [])), "missing"),
    ("cancel-reasons", lambda: World(items=Mute(lambda _: [(FAILED, None), None])), "reasons are"),
    ("cancel-reasons", lambda: World(items=Mute(lambda _: [None, (FAILED, None)])), "without the item"),
    ("racing", lambda: World(items=Losing()), "counted"),
    ("racing", lambda: World(items=Racing("Deadlock")), "Deadlock"),
    ("throttle", lambda: World(slow_table=refusing(OTHER_REASONS)), "TransactionConflict"),
    ("throttle", lambda: World(slow_table=refusing(TransactionCanceledError([None]))), "no reason"),
    ("throttle", lambda: World(slow_table=refusing(SLOW)), "Slow"),
    ("warm-tables", lambda: World(needed=14_000), "asks for ledger 14,000, usage 14,000"),
    ("warm-tables", lambda: World(provisioned=400), "the ledger is provisioned, and the stage says on demand"),
    ("warm-tables", lambda: World(scales=(200, 4_000)), "the ledger is on demand, and the stage says provisioned"),
    ("warm-tables", lambda: World(provisioned=150, scales=(200, 4_000)), "150 provisioned write units"),
    ("warm-tables", lambda: World(provisioned=4_001, scales=(200, 4_000)), "it says 200 to 4,000"),
    ("warm-tables", lambda: World(provisioned=300, scales=(200, 4_000), needed=14_000), "asks for usage 14,000"),
    ("table-quota", lambda: World(needed=40_001), "needed 40,001"),
    ("missing-key", lambda: World(compactor="403"), "403 to the compactor"),
    ("mapping-fill", lambda: World(fill=10), "60 messages/s for 5 s: 10.0 batches a commit in the last 2 s, as by 30"),
    (
        "mapping-fill",
        lambda: World(fill=10, mapping=replace(MAPPING, pollers=4)),
        "by at most 4 provisioned pollers",
    ),
    ("expiry", lambda: World(expiry={Table.LEDGER: "", Table.USAGE: ""}), "ledger: never"),
    ("expiry", lambda: World(expiry=dict.fromkeys(Table, "expires_at")), "usage: expires_at"),
    ("restore-points", lambda: World(restorable={Table.LEDGER}), "recovery of usage is off"),
    ("lifecycle", lambda: World(rules={}), "drop: missing, in the template drop/ deletes after 65 days"),
    ("lifecycle", lambda: World(rules={**RULES, "mine": "lake/ deletes after 1 days"}), "mine: lake/ deletes"),
    ("lifecycle", lambda: World(rules={"drop": "drop/ deletes after 1 days"}), "drop: drop/ deletes after 1 days, in"),
    ("mapping", lambda: World(mapping=replace(MAPPING, state="Disabled")), "in the template state Enabled"),
    ("mapping", lambda: World(mapping=replace(MAPPING, batch_size=10)), "in the template batch_size 95"),
    ("mapping", lambda: World(mapping=replace(MAPPING, window_s=0)), "in the template window_s 5"),
    ("mapping", lambda: World(mapping=replace(MAPPING, concurrency=None)), "in the template concurrency 20"),
    ("mapping", lambda: World(mapping=replace(MAPPING, partial=False)), "in the template partial True"),
    ("mapping", lambda: World(mapping=None), "no event source mapping, so"),
    ("lists-emptied", lambda: World(left=("U#0",)), "1 of 2 commits of the canary are done, and still on the waiting"),
    ("lists-emptied", lambda: World(left=("P#0",)), "1 of 1 commits of the canary are done, and still on the pending"),
    ("unreserved", lambda: World(executions=10), "10 concurrent executions that nobody has reserved, needed 22"),
    ("bootstrap", lambda: World(bootstrap=5), "version 5, needed 6"),
    ("bootstrap", lambda: World(bootstrap=None), "version none"),
    ("alarms-heard", lambda: World(actions=[HEARD, REFUSED]), "1 of 2 alarms could not publish, such as dead-letters"),
    ("alarms-heard", lambda: World(undelivered={"page": 3}), "could not deliver 3 to page in 30 days"),
    ("region-built", lambda: World(project_wanted=False), "no setting asks for it"),
    ("dropped-object", lambda: World(takes_drops=False), "no verdict after 20 s"),
    ("scratch-left", lambda: World(logged=["OSError: [Errno 28] No space left on device"]), "1 runs"),
    ("tombstones", lambda: World(listing=endless), "more than 50 pages"),
    ("tombstones", lambda: World(listing=forgetful), "not the one that is there"),
    ("athena", lambda: World(engine=replace(ENGINE, usage=Total(499, 5))), "view of usage has 5 rows, 499 bytes"),
    ("athena", lambda: World(engine=replace(ENGINE, rows=Total(500, 4))), "rows has 4 rows"),
    ("athena", lambda: World(engine=replace(ENGINE, totals=Total(1, 5))), "totals has 5 rows, 1 bytes"),
    ("athena", lambda: World(engine=replace(ENGINE, strange_times=5)), "5 of them"),
    ("redrive", lambda: World(redrive_renews=False), "keeps its first time"),
    ("cold-starts", lambda: World(starts={"canary": 10_000, "watch": 9_999}), "canary 10.0 s"),
    ("alarm", lambda: World(alarms_arrive=False), "did not reach the topic of page"),
    ("restore-window", lambda: World(window=None), "is off"),
    ("versions-kept", lambda: World(version_days=34), "34 days, and restore points for 35"),
    ("one-ledger", lambda: World(other_ledgers={"watch": "ledger-1"}), "watch works with ledger-1"),
    ("region-built", lambda: World(builds=["FAILED", "SUCCEEDED"]), "failed"),
]


@pytest.mark.parametrize(("name", "world", "words"), DIFFERENT)
def test_what_differs_is_said_with_what_to_do(name: str, world: Callable[[], World], words: str) -> None:
    observation = seen(world(), name)
    assert observation.verdict is Verdict.DIFFERS, observation
    assert words in observation.saw
    assert observation.advice


UNKNOWN: list[tuple[str, Callable[[], World], str]] = [
    ("versions-kept", lambda: World(versioned=False), "keeps no versions"),
    ("missing-key", lambda: World(stranger_lists=True), "does not tell apart"),
    ("missing-key", lambda: World(roles={"reader": "may not", "operator": "may not"}), "may not"),
    ("racing", World, "no conflict"),
    ("throttle", lambda: World(slow_table=MemoryItemStore()), "no throttle"),
    ("throttle", lambda: World(scratch_denied="the caller may not call CreateTable"), "CreateTable"),
    ("mapping-fill", lambda: World(verdict="rejected"), "refused"),
    ("dropped-object", lambda: World(verdict="rejected"), "refused"),
    ("scratch-left", lambda: World(logged=["KeyError: x"]), "no compactor ran out of time"),
    ("tombstones", lambda: World(versioned=False), "no versions"),
    ("athena", lambda: World(engine=None), "no analytics"),
    ("athena", lambda: World(lake_hour=None), "no hour"),
    ("receives", lambda: World(scratch_denied="the caller may not call CreateQueue"), "CreateQueue"),
    ("redrive", lambda: World(redrive=False), "StartMessageMoveTask"),
    ("cold-starts", lambda: World(starts={}), "no start"),
    ("alarm", lambda: World(topics_deliver=False), "nothing can be said"),
    ("region-built", lambda: World(builds=[]), "has not run"),
    ("region-built", lambda: World(project=""), "no project here"),
    ("lists-emptied", lambda: World(canaries=False), "no canary of the last day"),
    ("mapping", lambda: World(declared_mapping=None), "the template has no"),
    ("alarms-heard", lambda: World(actions=[]), "no alarm changed its state"),
    ("alarms-heard", lambda: World(actions=[HEARD._replace(at_s=0)]), "no alarm changed its state"),
    ("region-built", lambda: World(regions=[BuiltRegion(name="a", ready=False, opted_in=True)]), "no region"),
    ("region-built", lambda: World(regions=[BuiltRegion(name="a", ready=True, opted_in=False)]), "no region"),
]


@pytest.mark.parametrize(("name", "world", "words"), UNKNOWN)
def test_what_nobody_could_see_is_unknown_and_never_ok(name: str, world: Callable[[], World], words: str) -> None:
    observation = seen(world(), name)
    assert observation.verdict is Verdict.UNKNOWN, observation
    assert words in observation.saw


def test_a_message_that_says_no_count_of_its_receives_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    received = queues._received

    def forgetting(bench: object, queue: object) -> object:
        message = received(bench, queue)  # type: ignore[arg-type]  # passed on
        assert message is not None
        return replace(message, delivery=replace(message.delivery, receive_count=1))

    monkeypatch.setattr(queues, "_received", forgetting)

    observation = seen(World(), "receives")
    assert (observation.verdict, observation.saw[:22]) == (Verdict.DIFFERS, "receive counts 1, 1, 1")


def test_batches_without_a_verdict_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(world, "judge", lambda _names: None)
    observation = seen(world, "mapping-fill")
    assert observation.verdict is Verdict.DIFFERS
    assert "120 of the last 120 batches have no verdict" in observation.saw


def test_each_check_can_come_to_each_verdict_that_its_question_has() -> None:
    """Check that every listed check can fail."""
    alone = {"receives", "restore-cost"}
    assert {name for name, _, _ in DIFFERENT} | alone == set(NAMES)


def test_a_throttle_without_a_transaction_is_one_as_well() -> None:
    world = World(slow_table=refusing(ThrottledError("dynamodb.X", "Throttled")))
    assert seen(world, "throttle").verdict is Verdict.OK


def test_an_alarm_that_published_again_after_a_failure_is_well() -> None:
    later = [REFUSED, REFUSED._replace(at_s=REFUSED.at_s + 1, succeeded=True)]
    assert seen(World(actions=later), "alarms-heard").verdict is Verdict.OK


def test_no_project_and_no_setting_that_asks_for_one_is_well() -> None:
    assert seen(World(project="", project_wanted=False), "region-built").verdict is Verdict.OK


def test_a_message_that_comes_late_dies_all_the_same() -> None:
    assert seen(World(fitful=True), "redrive").verdict is Verdict.OK


@pytest.mark.parametrize(("world", "name"), [
    (World(emulated=True, fill=10), "mapping-fill"),
    (World(emulated=True, redrive_renews=False), "redrive"),
    (World(emulated=True, redrive=False), "redrive"),
    (World(emulated=True, bootstrap=None), "bootstrap"),
    (World(emulated=True, items=MemoryItemStore()), "racing"),
])  # fmt: skip
def test_what_an_emulator_cannot_show_is_said_of_the_emulator(world: World, name: str) -> None:
    observation = seen(world, name)
    assert observation.verdict is Verdict.UNKNOWN
    assert observation.saw.startswith("not on an emulator: ")
    assert not observation.advice


def test_an_emulator_may_differ_and_a_right_may_be_missing_there() -> None:
    assert seen(World(emulated=True, takes_drops=False), "dropped-object").verdict is Verdict.DIFFERS
    for denied in (
        seen(World(emulated=True, roles={"reader": "may not", "operator": "may not"}), "missing-key"),
        seen(World(emulated=True, scratch_denied="the caller may not call CreateQueue"), "redrive"),
    ):
        assert "not on an emulator" not in denied.saw


@pytest.mark.parametrize(("error", "verdict", "words"), [
    (CannotAskError("this endpoint has no X", "try Y"), Verdict.UNKNOWN, "this endpoint has no X"),
    (UnavailableError("s3.X", "503"), Verdict.UNKNOWN, "no answer"),
    (RefusedError("X was refused: bad digest"), Verdict.DIFFERS, "bad digest"),
    (MeteringError("odd"), Verdict.DIFFERS, "MeteringError: odd"),
])  # fmt: skip
def test_a_check_that_fails_to_look_does_not_end_the_others(error: MeteringError, verdict: Verdict, words: str) -> None:
    world = well()

    @contextmanager
    def failing() -> Iterator[None]:
        raise error
        yield

    world.asking = failing  # type: ignore[assignment]  # a fault
    found = [observation for _, observation in examine(world.bench(), CHECKS, thorough=True)]

    assert len(found) == len(CHECKS)
    assert {each.verdict for each in found} == {verdict}
    assert words in found[0].saw


def test_what_costs_money_or_pages_people_is_not_done_unasked() -> None:
    world = well()
    quick = {check.name: found for check, found in examine(world.bench(), CHECKS, thorough=False)}
    left = {name for name, found in quick.items() if found.saw.startswith("not asked")}
    assert left == {"throttle", "mapping-fill", "alarm"}
    assert {quick[name].verdict for name in left} == {Verdict.UNKNOWN}
    assert all("--thorough" in quick[name].advice for name in left)


def test_names_are_distinct_and_questions_are_questions() -> None:
    assert len(set(NAMES)) == len(NAMES) == 29
    assert all(check.question.endswith("?") for check in CHECKS)
    assert HOUR % 3600 == 0


def test_a_provisioned_ledger_within_its_limits_takes_what_auto_scaling_gives_it() -> None:
    world = World(provisioned=450, scales=(200, 4_000), warm=4_000)
    assert queues.warm(world.bench()).verdict is Verdict.OK
