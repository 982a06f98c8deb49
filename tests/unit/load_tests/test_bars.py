"""The limits of load test and race: each limit can be missed, and a value exactly at a limit passes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from load_tests.deployed.sampler import (
    Booked,
    BookedRun,
    CountedManifest,
    Progress,
    Sample,
    Visibility,
    caught_up_ms,
    p99,
)
from load_tests.load import _print_flatness, _print_rate, _print_visible, flatness
from load_tests.race.__main__ import LEVELS, Level, level_of, problems_of, shipments_of
from load_tests.race.naive import sums_of
from load_tests.race.running import OURS, Result
from load_tests.race.site import wrong_accounts
from load_tests.soak import Leg, trends
from load_tests.stage import POLICY
from load_tests.wire import as_on_aws
from load_tests.wire.counts import WireRun
from load_tests.wire.day_costs import ESTIMATED, SECONDS_AT_TARGET, day_costs
from load_tests.wire.region import Kinds, Load, Stored
from metering.audit.verification import ManifestHeader, header_line
from metering.cli.commands.developer.replay import SentLog
from metering.replay.scenarios import SCENARIOS
from metering.replay.synthesis import Synthesis
from metering.units import DAY_S
from tests.support.small_world import NOW_S

SCALE = (Path(__file__).parents[3] / "docs/scale.md").read_text()
LOAD = Load(scenario="load", accounts=500, most_units=3.0, most_usd=60)
RUN = WireRun(
    load=LOAD,
    batches=1_000,
    body_bytes=22_000_000,
    counts={
        "write TransactWriteItems C#": 2_100.0,
        "write UpdateItem A#": 300.0,
        "calls TransactWriteItems C#": 11.0,
        "s3 calls PUT": 12.0,
        "s3 bytes lake/": 1_000_000.0,
    },
    claims={},
    cpu_s={"aggregator": 0.7, "roll-up": 0.2, "jobs": 0.1},
    kinds=Kinds(accounts=500, distinct=20, of_accounts=9_000),
    stored=Stored(items={"B#": 1_000, "C#": 11, "A#": 450}, bytes={"B#": 600_000, "C#": 5_000, "A#": 150_000}),
    equal=True,
)


def test_a_run_below_its_bars_has_no_problem() -> None:
    assert as_on_aws.problems_of([RUN]) == []
    assert RUN.units_a_batch == pytest.approx(2.4)
    assert sum(RUN.units.values()) == pytest.approx(RUN.units_a_batch)


def test_each_bar_of_a_counted_run_can_be_missed() -> None:
    [units] = as_on_aws.problems_of([replace(RUN, load=replace(LOAD, most_units=2.3))])
    assert "2.40 write units a batch" in units
    [equal] = as_on_aws.problems_of([replace(RUN, equal=False)])
    assert "differ" in equal
    [usd] = as_on_aws.problems_of([replace(RUN, load=replace(LOAD, most_usd=20))])
    assert "USD a day" in usd


def test_a_day_is_the_units_of_the_run_times_the_target() -> None:
    costs = day_costs(RUN)
    assert costs["DynamoDB writes: accept"] == pytest.approx(2.1 * 12 * 0.625)
    assert costs["DynamoDB writes: roll up"] == pytest.approx(0.3 * 12 * 0.625)
    twice = day_costs(replace(RUN, counts={**RUN.counts, "write UpdateItem A#": 600.0}))
    assert twice["DynamoDB writes: roll up"] == pytest.approx(2 * costs["DynamoDB writes: roll up"])
    # Markers of fifty days: 12 million per day, each with 100 extra bytes.
    assert costs[f"DynamoDB storage and restore points{ESTIMATED}"] > 50 * 12e6 * 700 / 2**30 * 0.45 / 30


def test_a_day_has_the_jobs_that_prove_watch_and_bill() -> None:
    costs = day_costs(RUN)
    # Half a read unit per marker, for 12 million markers (P37).
    assert costs[f"DynamoDB reads: quick pass, markers of each new file{ESTIMATED}"] == pytest.approx(0.75)
    large = Stored(items=RUN.stored.items, bytes={**RUN.stored.bytes, "B#": 5_000_000})
    assert day_costs(replace(RUN, stored=large))[
        f"DynamoDB reads: quick pass, markers of each new file{ESTIMATED}"
    ] == pytest.approx(1.5)
    # Two GB for 13,200 s, with a sixth of a scan; 24 biller runs in 230 GB-seconds (docs/decisions/0033-budgets.md).
    busy = costs[f"Lambda: reconciler, and the pass over orphans{ESTIMATED}"]
    assert busy == pytest.approx(2 * (11_524 + 9_906 / 6 + 25.2) * 0.0000133334)
    biller = costs[f"Biller: Lambda, reads and objects{ESTIMATED}"]
    assert biller == pytest.approx(228 * 0.0000133334 + 2_900 * 0.4e-6 + 700 * 0.125e-6, rel=0.01)
    watch = costs[f"Watch: Lambda, reads and writes{ESTIMATED}"]
    assert watch == pytest.approx(1_440 * (0.21 / 2 * 0.0000133334 + 3 * 0.625e-6 + 30 * 0.125e-6))
    canary = costs[f"Canary: Lambda, reads, writes and objects{ESTIMATED}"]
    assert canary == pytest.approx(288 * (12.9 / 2 * 0.0000133334 + 2 * 0.625e-6 + 419 * 0.125e-6 + 34 * 0.4e-6))


def test_a_roll_up_that_ends_and_a_scan_a_week_cost_what_they_take() -> None:
    lines = (f"Lambda: roll-up{ESTIMATED}", f"DynamoDB reads: scans of everything{ESTIMATED}")

    def costs(**changed: int) -> tuple[float, ...]:
        found = day_costs(RUN, POLICY.model_copy(update=changed))
        return tuple(found[line] for line in lines)

    daily = costs(rollup_every_s=15, scan_every_s=DAY_S)
    assert daily[0] == pytest.approx(1.99, abs=0.01)
    weekly = costs(rollup_every_s=60, scan_every_s=7 * DAY_S)
    assert weekly[0] < daily[0] / 3
    # Five in a month, because a scan follows its end.
    assert weekly[1] == pytest.approx(daily[1] / 6)
    assert costs(rollup_every_s=59, scan_every_s=0) == daily


@pytest.mark.parametrize("job", SECONDS_AT_TARGET)
def test_the_seconds_of_a_job_are_those_of_the_page(job: str) -> None:
    [seconds] = re.findall(rf"^\| {job} \|(?:[^|]+\|){{2}} ([\d,.]+) s \|", SCALE, re.MULTILINE)
    assert float(seconds.replace(",", "")) == SECONDS_AT_TARGET[job]


def _result(name: str, *, rate: float, units: float, wrong: int = 0, kills: int = 3) -> Result:
    return Result(
        name=name,
        batches=1_000,
        seconds=1_000 / rate,
        units=units,
        puts=0.01,
        cpu_ms=1.0,
        wrong=wrong,
        accounts=480,
        excess=0.0,
        kills=kills,
    )


def _levels(**changes: tuple[float, float]) -> list[Level]:
    """Levels for each number of keys, with values exactly at the limits; `changes` apply to 16 keys."""
    on_bars = {
        1: {"powertools": (100.0, 3.0), "transact": (100.0, 4.0), OURS: (100.0, 3.0)},
        5: {"powertools": (100.0, 7.0), "transact": (100.0, 12.0), OURS: (100.0, 3.5)},
        16: {"powertools": (40.0, 18.0), "transact": (100.0, 34.0), OURS: (200.0, 3.4)} | changes,
    }
    return [
        level_of(keys, [_result(name, rate=rate, units=units) for name, (rate, units) in on_bars[keys].items()])
        for keys in LEVELS
    ]


def test_a_race_on_its_bars_has_no_problem() -> None:
    assert (
        problems_of(_levels(), [_result(OURS, rate=1, units=1), _result("powertools", rate=1, units=1, wrong=9)]) == []
    )


@pytest.mark.parametrize(("changes", "missed"), [
    ({OURS: (200.0, 6.1)}, "Powertools' units at 16 keys"),
    ({OURS: (200.0, 3.5)}, "exact rival's units"),
    ({OURS: (199.0, 3.4)}, "Powertools' batches/s"),
    ({"transact": (101.0, 34.0)}, "exact rival's batches/s"),
], ids=["units", "units-of-exact", "rate", "rate-of-exact"])  # fmt: skip
def test_each_bar_of_the_race_can_be_missed(changes: dict[str, tuple[float, float]], missed: str) -> None:
    assert any(missed in problem for problem in problems_of(_levels(**changes), []))


def test_a_wrong_account_of_ours_is_a_missed_bar() -> None:
    assert problems_of([], [_result(OURS, rate=1, units=1, wrong=1)]) == ["ours: 1 accounts are wrong"]


def test_a_run_with_trouble_in_which_no_worker_of_ours_was_killed_shows_nothing() -> None:
    [missed] = problems_of([], [_result(OURS, rate=1, units=1, kills=0)])
    assert "send more" in missed
    assert problems_of([], [_result("transact", rate=1, units=1, kills=0)]) == []


def test_accounts_are_wrong_that_are_missing_that_are_more_or_that_nobody_sent() -> None:
    sent = {"a": (1, 1), "b": (2, 1), "c": (3, 1)}
    assert wrong_accounts({"a": (1, 1), "b": (2, 2), "d": (1, 1)}, sent) == 3
    assert wrong_accounts(dict(sent), sent) == 0


def test_the_naive_sums_of_a_message_are_what_was_sent() -> None:
    for keys in LEVELS:
        for shipment in shipments_of(keys, 20, 1):
            sums = sums_of(json.loads(shipment.body))
            assert sum(each.bytes for each in sums) == sum(total.bytes for total in shipment.sent.totals.values())
            # There are as many sums as the service has usage keys, so both sides do the same grouping.
            assert len(sums) == len(shipment.sent.totals)


def _minutes(cpu_s_a_minute: list[float], *, ticks_s: float = 0.0) -> Progress:
    """A sample each second at 100 batches/s; once a minute, a job takes `ticks_s`; other CPU time is steady."""
    samples, cpu_s = [], 0.0
    for second in range(1, 60 * len(cpu_s_a_minute) + 1):
        cpu_s += cpu_s_a_minute[(second - 1) // 60] / 60 + (ticks_s if second % 60 == 30 else 0.0)
        samples.append(Sample(at_s=float(second), done=100 * second, cpu_s=cpu_s))
    return Progress(samples=samples, peak_kib={1: 1})


def test_processor_time_is_taken_between_two_moments() -> None:
    samples = [Sample(at_s=float(each), done=1_000 * each, cpu_s=2.0 * each + (each > 5) * 10) for each in range(1, 11)]
    progress = Progress(samples=samples)
    assert progress.cpu_ms_a_batch(2, 4) == pytest.approx(2.0)
    assert progress.cpu_ms_a_batch(4, 6) == pytest.approx(7.0)
    assert progress.seconds_at(2_500) == pytest.approx(2.5)


def test_a_job_of_each_minute_is_in_both_minutes_that_are_compared() -> None:
    for steady_s in (60.0, 75.0, 95.0):
        found = flatness(_minutes([12.0] * 5, ticks_s=6.0), 30_000, steady_s)
        assert found == pytest.approx((steady_s, 3.0, 3.0))
    # A window of a quarter of a minute would have shown this.
    progress = _minutes([12.0] * 5, ticks_s=6.0)
    assert progress.cpu_ms_a_batch(80, 100) > 2 * progress.cpu_ms_a_batch(100, 120)


def test_a_batch_that_costs_more_at_the_end_is_a_missed_bar() -> None:
    assert _print_flatness(_minutes([12.0, 12.0, 12.0, 12.0, 13.7]), 30_000, 61.0) == []
    assert _print_flatness(_minutes([12.0, 12.0, 12.0, 12.0, 13.9]), 30_000, 61.0) == [
        "a batch costs 1.16 times as much at 30,000"
    ]


def test_a_run_of_full_length_without_two_minutes_is_a_missed_bar_and_a_short_one_is_not() -> None:
    progress = _minutes([12.0] * 3)
    assert flatness(progress, 18_000, 61.0) is None
    assert flatness(progress, 18_000, None) is None
    assert _print_flatness(progress, 18_000, 61.0) == []
    assert _print_flatness(progress, 100_000, 61.0) == ["100,000 batches were too few to compare two minutes"]


def _run_of(planned_s: int, *sent_s: int, full: bool = False, took_s: int = 5) -> BookedRun:
    """A run in which each commit followed its messages after two seconds."""
    done_at_ms = (planned_s + took_s) * 1_000
    commits = tuple(
        Booked(sent_at_ms=each * 1_000, created_at_ms=each * 1_000 + 2_000, visible_at_ms=done_at_ms) for each in sent_s
    )
    return BookedRun(planned_at_ms=planned_s * 1_000, done_at_ms=done_at_ms, full=full, commits=commits)


def test_the_time_until_usage_is_visible_is_that_of_commits_since_the_function_ran() -> None:
    visibility = Visibility.of([_run_of(60, 0, 57), _run_of(75, 58, 70), _run_of(90, 75)])
    assert [each.sent_at_ms for each in visibility.before] == [0, 57_000]
    assert visibility.p99_s == pytest.approx(22.0)
    assert "at most 65 s" in visibility.lines()[-1]
    assert _print_visible(visibility, 139.0) == []


def test_usage_that_is_visible_too_late_is_a_missed_bar_at_the_targets_rate_only() -> None:
    late = Visibility.of([_run_of(60, 0), _run_of(75, 58, took_s=60)])
    assert _print_visible(late, 139.0) == ["1 % of the usage is visible only after 77 s"]
    assert _print_visible(late, None) == []
    assert _print_visible(Visibility.of([]), 139.0) == ["no commit came while the roll-up's function was running"]


def test_a_run_that_was_sent_slower_than_it_should_be_shows_nothing_and_is_a_missed_bar() -> None:
    assert _print_rate(1_390, 10.3, 10.5, 25.0, 139.0) == []
    assert _print_rate(1_390, 19.0, 19.5, 25.0, 139.0) == ["73 batches/s were sent, not 139"]
    assert _print_rate(1_390, 9.0, 9.5, 11.0, None) == ["126 batches/s is less than 139"]


def test_of_a_hundred_times_the_last_but_one_is_the_99_th() -> None:
    assert (p99(range(1, 101)), p99(range(1, 102)), p99([5]), p99([])) == (99, 100, 5, 0)


def test_the_roll_up_has_caught_up_when_a_run_is_done_that_was_not_full() -> None:
    assert caught_up_ms([_run_of(60, full=True), _run_of(70), _run_of(80)]) == 75_000
    assert caught_up_ms([_run_of(60, full=True)]) is None


# The load test sets its pace by the number of sent batches.


def test_every_batch_of_a_group_is_counted_and_the_header_is_not() -> None:
    synthesis = Synthesis(name="s", scenario=SCENARIOS["load-1"], seed=1, base_hour_s=NOW_S, bucket="b")
    sent = [shipment.sent for shipment in synthesis.shipments(25)]
    manifest = CountedManifest()
    log = SentLog(manifest)
    log.begin(header_line(ManifestHeader(name="s", region="us-east-1", seed=1, began_at_ms=0)))
    log.add(sent[:10])
    log.add(sent[10:])
    assert manifest.sent == 25
    assert len([json.loads(line) for line in manifest.getvalue().splitlines()]) == 26


# Conditions for a complete soak test: it has ended, and neither its rate nor its memory shows a trend.

LEG = Leg(first=0, batches=20_000, sending_s=30.0, settling_s=18.0, kills=15, overlaps=190, redriven=0, memory_mib=147)
# Measured.
NOISY = (741, 627, 635, 602, 733, 719, 604, 707, 680, 593)


def legs(rates: tuple[float, ...]) -> list[Leg]:
    return [replace(LEG, sending_s=LEG.batches / rate) for rate in rates]


def test_tenths_that_differ_without_a_trend_are_flat() -> None:
    assert trends(legs(NOISY)) == []


@pytest.mark.parametrize(("rates", "said"), [
    (tuple(700.0 - 15 * tenth for tenth in range(10)), "rate fell from 700 to 565"),
    (tuple(rate * 0.97**tenth for tenth, rate in enumerate(NOISY)), "rate fell"),
    ((700.0,) * 5 + (500.0,) * 5, "rate fell"),
    ((700.0,) * 9, "not finished"),
])  # fmt: skip
def test_a_rate_that_falls_is_told(rates: tuple[float, ...], said: str) -> None:
    [problem] = trends(legs(rates))
    assert problem.startswith(said)


def test_memory_that_grows_is_told() -> None:
    grown = [replace(LEG, memory_mib=147 + 4 * tenth) for tenth in range(10)]
    assert trends(grown) == ["memory grew from 151 to 183 MiB"]


def test_a_run_without_a_batch_in_two_processes_proves_nothing() -> None:
    [problem] = trends([replace(LEG, overlaps=0)] * 10)
    assert "proves nothing" in problem
