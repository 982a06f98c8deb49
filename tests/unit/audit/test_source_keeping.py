"""Sources: whatever numbers a source sends, its item stays small, others are tracked, and people's rulings apply."""

import tracemalloc

import pytest

from metering.audit.sequences import GAPS_KEPT, SOURCES_KEPT, MarkerSurvey, SeenSequences, SourceSightings
from metering.audit.source_keeping import SourceKeeper
from metering.errors import ItemTooLargeError, UnavailableError
from metering.ledger.notes.reconciliation import RULING_PK, SOURCE_PK, Ruling, RulingKind, SourceFigures, SourceState
from metering.stores.writes import Item, Key, Put, Table, item_bytes
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.verdicts import marker_of

NOW_S = 1_800_000_000
ITEM_BYTES = 400 * 1024
LARGEST_JUMP = 1_000


class BrokenItemStore(MemoryItemStore):
    """A store that raises errors for writes of the sources in `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: dict[str, Exception] = {}

    def put(self, action: Put) -> None:
        if action.key.pk == SOURCE_PK and action.key.sk in self.broken:
            raise self.broken[action.key.sk]
        super().put(action)


class Setup:
    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.items = BrokenItemStore()
        self.keeper = SourceKeeper(items=self.items, clock=self.clock, largest_jump=LARGEST_JUMP, life_s=60 * DAY_S)
        self.seen: dict[str, SourceSightings] = {}

    def decide(self, source_id: str, *numbers: int) -> None:
        """Add markers of batches; each complete pass sees all markers again."""
        sightings = self.seen.setdefault(source_id, SourceSightings())
        for number in numbers:
            sightings.add(number, self.clock.now_ms())

    def scan(self, *, after_s: int = HOUR_S) -> int | None:
        self.clock.advance_s(after_s)
        return self.keeper.keep(MarkerSurvey(sources=dict(self.seen)))

    def state(self, source_id: str) -> SourceState:
        return next(state for state in self.keeper.states() if state.source_id == source_id)

    @property
    def figures(self) -> SourceFigures:
        return self.keeper.figures()

    def rule(self, source_id: str, kind: RulingKind, numbers: tuple[int, int] | None = None) -> None:
        self.clock.advance_s(MINUTE_S)
        now_ms = self.clock.now_ms()
        expires_s = now_ms // 1000 + 50 * DAY_S
        ruling = Ruling(source_id=source_id, kind=kind, numbers=numbers, at_ms=now_ms, by="me", expires_at=expires_s)
        self.items.put(Put(table=Table.LEDGER, item=ruling.to_item()))

    def item(self, source_id: str) -> Item:
        item = self.items.peek(Table.LEDGER, Key(SOURCE_PK, source_id))
        assert item is not None
        return item


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_a_source_with_thousands_of_holes_keeps_the_newest_gaps_and_an_exact_count_of_the_rest(setup: Setup) -> None:
    setup.decide("good", 0, 1, 3)
    setup.decide("holes", *range(0, 18_000, 2))
    setup.scan()
    setup.scan()
    assert setup.state("good").gaps == ((2, 2),)
    state = setup.state("holes")
    assert len(state.gaps) == GAPS_KEPT
    assert state.gaps[-1] == (17_997, 17_997)
    assert state.unlisted_gaps == 8_999 - GAPS_KEPT
    assert state.missing == 8_999
    assert setup.figures.gaps == 9_000
    assert setup.figures.unkept == 0


def test_the_largest_item_that_a_source_can_have_is_a_tenth_of_what_fits(setup: Setup) -> None:
    big = 2**62
    setup.decide("s" * 128, *range(big, big + 20_000, 2), 2**63 - 1)
    setup.keeper = SourceKeeper(items=setup.items, clock=setup.clock, largest_jump=2**63, life_s=60 * DAY_S)
    setup.scan()
    setup.scan()
    assert item_bytes(setup.item("s" * 128)) < ITEM_BYTES // 10


@pytest.mark.parametrize(
    "error", [ItemTooLargeError("W#source / bad", "503967 bytes"), UnavailableError("dynamodb.PutItem", "throttled")]
)
def test_a_source_that_cannot_be_written_keeps_no_other_from_being_kept_and_is_named(error: Exception) -> None:
    setup = Setup()
    setup.items.broken["bad"] = error
    for name in ("a", "bad", "c"):
        setup.decide(name, 0, 2)
    setup.scan()
    assert {state.source_id for state in setup.keeper.states()} == {"a", "c"}
    assert (setup.figures.unkept, setup.figures.names) == (1, ("bad",))
    setup.items.broken.clear()
    setup.scan()
    assert (setup.figures.unkept, setup.figures.names) == (0, ())


def test_an_item_that_nobody_can_read_keeps_no_other_from_being_kept(setup: Setup) -> None:
    setup.items.put(Put(table=Table.LEDGER, item={"pk": SOURCE_PK, "sk": "bad", "gaps": "none", "last_sequence": 1}))
    setup.decide("a", 0)
    setup.decide("bad", 0)
    setup.scan()
    assert (setup.figures.sources, setup.figures.names) == (1, ("bad",))


def test_senders_who_invent_sources_fill_nothing_and_displace_nobody(setup: Setup) -> None:
    setup.decide("zz-real", 0)
    setup.scan()
    for number in range(SOURCES_KEPT + 50):
        setup.decide(f"invented-{number:06d}", 0)
    setup.scan()
    assert setup.figures.sources == SOURCES_KEPT
    assert setup.figures.unkept == 51
    assert setup.figures.names[0] == f"invented-{SOURCES_KEPT - 1:06d}"
    assert setup.state("zz-real").last_sequence == 0


def test_a_source_expires_and_the_table_may_forget_it(setup: Setup) -> None:
    setup.decide("gone", 0, 2)
    setup.scan()
    setup.seen.clear()
    setup.clock.advance_s(59 * DAY_S - HOUR_S)
    setup.decide("here", 0)
    assert setup.scan() is not None
    assert {state.source_id for state in setup.keeper.states()} == {"gone", "here"}
    assert setup.scan(after_s=2 * DAY_S) is None
    assert {state.source_id for state in setup.keeper.states()} == {"here"}
    assert setup.figures.sources == 1
    assert setup.item("gone")["expires_at"] == NOW_S + 60 * DAY_S


def test_a_number_that_is_no_credible_continuation_holds_nothing_back_and_is_named(setup: Setup) -> None:
    """Any sender may use any source id, so one number of 2^62 must not stop `complete_through` for 35 days."""
    setup.decide("edge", *range(10), 2**62)
    setup.scan()
    assert setup.scan() is None
    state = setup.state("edge")
    assert (state.last_sequence, state.gaps) == (9, ())
    assert (state.incredible, state.incredible_first) == (1, 2**62)
    assert setup.figures.incredible == 1
    setup.decide("edge", 10, 12)
    setup.scan()
    assert setup.scan() is not None
    assert setup.state("edge").gaps == ((11, 11),)


def test_the_largest_credible_jump_is_a_gap() -> None:
    at_most = SeenSequences(last=0).plus({LARGEST_JUMP + 1: 1}, now_ms=1, largest_jump=LARGEST_JUMP)
    assert at_most.gaps[0].numbers == LARGEST_JUMP
    beyond = SeenSequences(last=0).plus({LARGEST_JUMP + 2: 1}, now_ms=1, largest_jump=LARGEST_JUMP)
    assert (beyond.gaps, beyond.incredible) == ((), 1)


def test_a_part_of_a_gap_is_accepted_and_the_rest_still_missing(setup: Setup) -> None:
    setup.decide("edge", 0, 10)
    setup.scan()
    since_ms = setup.scan()
    assert setup.state("edge").gaps == ((1, 9),)
    for _ in range(2):
        setup.rule("edge", RulingKind.ACCEPT_GAP, (3, 5))
        assert setup.scan() == since_ms
        assert setup.state("edge").gaps == ((1, 2), (6, 9))
    setup.rule("edge", RulingKind.ACCEPT_GAP, (0, 1_000))
    assert setup.scan() is None
    assert setup.state("edge").gaps == ()
    assert setup.figures.gaps == 0


def test_all_that_is_missing_is_accepted_and_what_goes_missing_later_is_told_of(setup: Setup) -> None:
    setup.decide("holes", *range(0, 2_000, 2), 2**40)
    setup.scan()
    setup.scan()
    setup.rule("holes", RulingKind.ACCEPT_GAP)
    assert setup.scan() is None
    state = setup.state("holes")
    assert (state.missing, state.unlisted_gaps, state.incredible) == (0, 0, 0)
    setup.decide("holes", *range(2_000, 4_000, 2), 2**41)
    setup.scan()
    assert setup.scan() is not None
    state = setup.state("holes")
    assert (state.missing, state.incredible) == (1_000, 1)


def test_a_ruling_is_honoured_between_whole_passes_and_tells_of_no_gap_early(setup: Setup) -> None:
    setup.decide("edge", 0, 5)
    setup.decide("other", 0, 2)
    setup.scan()
    setup.scan()
    setup.decide("edge", 8)
    setup.scan()
    setup.clock.advance_s(HOUR_S)
    assert setup.keeper.honour() is None
    setup.rule("edge", RulingKind.ACCEPT_GAP, (1, 4))
    assert setup.keeper.honour() == (NOW_S * 1000,)
    # Numbers 6 and 7 may have arrived since then: only a complete pass can tell.
    assert setup.state("edge").gaps == ()
    assert setup.state("other").gaps == ((1, 1),)
    assert setup.keeper.honour() is None
    setup.rule("other", RulingKind.FORGET)
    assert setup.keeper.honour() == (None,)


def test_a_forgotten_source_begins_anew_when_it_sends_again_and_not_before(setup: Setup) -> None:
    setup.decide("edge", 0, 500)
    setup.scan()
    assert setup.scan() is not None
    for _ in range(2):
        setup.rule("edge", RulingKind.FORGET)
        # Its markers still exist.
        assert setup.scan() is None
        assert setup.keeper.states() == []
        assert setup.figures.sources == 0
    setup.decide("edge", 70_000, 70_001, 70_003)
    setup.scan()
    assert setup.scan() is not None
    state = setup.state("edge")
    assert (state.last_sequence, state.gaps) == (70_003, ((70_002, 70_002),))


def test_a_ruling_of_before_a_source_was_forgotten_is_over(setup: Setup) -> None:
    setup.decide("edge", 0, 5)
    setup.scan()
    setup.rule("edge", RulingKind.ACCEPT_GAP, (0, 1_000))
    setup.rule("edge", RulingKind.FORGET)
    setup.scan()
    setup.decide("edge", 10, 12)
    setup.scan()
    setup.scan()
    assert setup.state("edge").gaps == ((11, 11),)


def test_giving_the_same_ruling_again_makes_no_second_item(setup: Setup) -> None:
    for _ in range(3):
        setup.rule("edge", RulingKind.FORGET)
        setup.rule("edge", RulingKind.ACCEPT_GAP)
        setup.rule("edge", RulingKind.ACCEPT_GAP, (1, 2))
    assert len(list(setup.items.query(Table.LEDGER, RULING_PK))) == 3


def test_silence_is_judged_when_everything_was_read_and_not_between(setup: Setup) -> None:
    """A source that sends hourly is never silent, even between rare complete passes; a stopped source is silent."""
    setup.decide("stopped", 0)
    for day in range(4):
        setup.decide("hourly", *range(day * 24, day * 24 + 24))
        setup.clock.advance_s(10)
        setup.decide("hourly", day * 24 + 24)
        setup.scan(after_s=DAY_S - 10)
        setup.clock.advance_s(6 * HOUR_S)
        assert setup.figures.silent == (1 if day else 0)


def test_passes_that_see_the_same_write_nothing_but_the_figures(setup: Setup) -> None:
    setup.decide("edge", 0, 5)
    setup.scan()
    setup.scan()
    calls: list[str] = []
    setup.items.on_call = calls.append
    setup.scan()
    assert calls.count("items.put") == 1


def test_a_survey_of_a_part_leaves_out_what_the_whole_survey_does() -> None:
    known = SourceSightings(SeenSequences(last=9, last_ms=5_000), since_ms=4_000)
    whole = MarkerSurvey(sources={"s": known})
    part = whole.part()
    for sequence, at_ms in ((3, 1_000), (9, 4_500), (10, 6_000)):
        part.add(marker_of("b", source_id="s", sequence=sequence, decided_at_ms=at_ms))
    assert len(part.sources["s"]) == 2
    whole.merge(part)
    assert dict(whole.sources["s"].in_order()) == {9: 4_500, 10: 6_000}
    assert whole.sources["s"].newest_ms == 6_000


def test_a_survey_without_sources_notes_none() -> None:
    survey = MarkerSurvey(with_sources=False)
    marker = marker_of("b", source_id="s", sequence=1)
    survey.part().add(marker)
    survey.add(marker)
    assert not survey.sources


@pytest.mark.parametrize(
    "numbers", [[5, 7, 6], [9, 2**15 + 9, 9 - 2**15 + 2**20], [0, 2**31, 2**40, 1], [2**62, 0, 2**63 - 1], []]
)
def test_numbers_and_their_moments_are_kept_exactly_however_far_apart(numbers: list[int]) -> None:
    seen = SourceSightings()
    for place, number in enumerate(numbers):
        seen.add(number, 1_795_000_000_000 - place * 40 * DAY_S * 1_000)
    kept = {number: 1_795_000_000_000 - place * 40 * DAY_S * 1_000 for place, number in enumerate(numbers)}
    assert dict(seen.in_order()) == kept
    again = SourceSightings()
    again.add_saved(*seen.saved())
    assert (dict(again.in_order()), again.newest_ms, len(again)) == (kept, seen.newest_ms, len(numbers))
    both = SourceSightings()
    both.merge(again)
    assert dict(both.in_order()) == kept


def test_numbers_of_a_day_take_six_bytes_each() -> None:
    seen = SourceSightings()
    tracemalloc.start()
    try:
        for number in range(30_000):
            seen.add(10**12 + number, 1_795_000_000_000 + number * 2_800)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(seen) == 30_000
    # Arrays allocate slightly more memory than their content needs.
    assert taken < 30_000 * 6 * 1.15
