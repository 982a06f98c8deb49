"""`make engines`: the SQL of docs/analytics.md on a replayed lake returns the service's totals to the byte.

Spark runs in a separate environment, with the machine's Java. Without a suitable Java, Spark is skipped, or the run
fails if `CI` is set. In each engine, damaged copies of the lake must give different totals.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.engines.engines import Question, by_duckdb, by_spark, find_java, why_no_spark
from tests.engines.replayed import Replayed, Totals, replayed

Engine = Callable[[Sequence[Question]], list[Totals]]


def questions(lake: Replayed, folder: Path) -> list[tuple[Question, Totals]]:
    """Two questions for each day of a lake (hourly totals and the day's total), with the service's answers."""
    return [
        pair
        for day in lake.days
        for pair in (
            (Question(folder=folder, day=day, from_totals=False), lake.of_day(day)),
            (Question(folder=folder, day=day, from_totals=True), lake.of_whole_day(day)),
        )
    ]


def damaged(lake: Replayed, to: Path) -> dict[str, Path]:
    """Two damaged copies of the lake: one with a duplicated file, one with a missing file, in both rows and totals."""
    copies = {}
    for name in ("a file twice", "a file missing"):
        copies[name] = to / name.replace(" ", "-")
        shutil.copytree(lake.folder, copies[name])
        for prefix in ("lake", "summaries"):
            # A file of the current hour, which contains rows of many accounts.
            victim = sorted((copies[name] / prefix).rglob("*.parquet"))[-1]
            if name == "a file twice":
                shutil.copyfile(victim, victim.with_stem(f"{victim.stem}-again"))
            else:
                victim.unlink()
    return copies


def judge(name: str, engine: Engine, lake: Replayed, copies: dict[str, Path]) -> bool:
    """Ask an engine all questions at once, and print the results."""
    right = questions(lake, lake.folder)
    wrong = [(damage, pair) for damage, folder in copies.items() for pair in questions(lake, folder)[-2:]]
    began = time.monotonic()
    answers = engine([question for question, _ in right] + [question for _, (question, _) in wrong])
    well = True
    for (question, expected), answer in zip(right, answers, strict=False):
        same = answer == expected
        well &= same
        total = sum(each.bytes for each in answer.values())
        what = "totals beside files" if question.from_totals else "rows"
        print(
            f"{'ok   ' if same else 'WRONG'} {name}: {question.day} from {what}: {len(answer):,} lines, {total:,} bytes"
        )
    for (damage, (question, expected)), answer in zip(wrong, answers[len(right) :], strict=True):
        found = answer != expected
        well &= found
        what = "totals" if question.from_totals else "rows"
        print(f"{'ok   ' if found else 'WRONG'} {name}: {damage}, from {what}: {'found' if found else 'not found'}")
    print(f"      {name}: {time.monotonic() - began:.0f} s", flush=True)
    return well


def main(arguments: Sequence[str]) -> int:
    """Run the engines of this machine; returns 0 only if all results are correct and Spark ran or may be skipped."""
    parser = argparse.ArgumentParser(prog="python -m tests.engines", description=__doc__)
    parser.add_argument("--batches", type=int, default=1_000)
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="metering-engines-") as temporary:
        lake = replayed(Path(temporary) / "lake-of-the-service", batches=options.batches)
        copies = damaged(lake, Path(temporary))
        files = len(list((lake.folder / "lake").rglob("*.parquet")))
        print(f"{files:,} files, {len(lake.by_hour):,} totals of {len(lake.days)} days", flush=True)
        well = judge("DuckDB", by_duckdb, lake, copies)
        reason, java = why_no_spark(), find_java()
        if reason or java is None:
            print(f"skipped Spark: {reason}")
            return int(not well or bool(os.environ.get("CI")))
        versions: list[str] = []
        well &= judge("Spark", partial(_spark, java, versions), lake, copies)
        print(f"Spark {versions[0]} on {java.resolve()}")
    return int(not well)


def _spark(java: Path, versions: list[str], asked: Sequence[Question]) -> list[Totals]:
    version, answers = by_spark(asked, java)
    versions.append(version)
    return answers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
