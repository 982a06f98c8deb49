"""Query engines that run SQL statements on a lake in a folder: DuckDB's own reader, and Spark in its environment."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from tests.engines.replayed import Line, Sum, Totals
from tests.tools import SPARK, why_not

_JOB = Path(__file__).with_name("spark_job.py")
# Spark 4 runs on Java 17 and 21.
LEAST_JAVA = 17
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query for one day of a lake: hourly totals computed from rows, or the day's stored totals."""

    folder: Path
    day: str
    from_totals: bool


def by_duckdb(questions: Sequence[Question]) -> list[Totals]:
    found = []
    with duckdb.connect(config={"threads": 2}) as engine:
        for each in questions:
            name = "duckdb totals" if each.from_totals else "duckdb"
            cursor = engine.execute(statement(name, day=each.day, folder=each.folder))
            names = [str(column[0]) for column in cursor.description or []]
            found.append(_totals([dict(zip(names, row, strict=True)) for row in cursor.fetchall()]))
    return found


def by_spark(questions: Sequence[Question], java: Path) -> tuple[str, list[Totals]]:
    """Spark's version, and its answers to the questions.

    Raises:
        CalledProcessError: Spark failed; stderr has Spark's messages.
    """
    asked = [
        {
            "setup": statement("spark", day=each.day, folder=each.folder),
            "totals": str(each.folder / "summaries"),
            "sql": statement("spark totals" if each.from_totals else "spark sql", day=each.day),
        }
        for each in questions
    ]
    python = SPARK.folder() / "bin" / "python"
    environ = {**os.environ, "JAVA_HOME": str(java.resolve().parent.parent), "PYSPARK_PYTHON": str(python)}
    # Otherwise Spark would resolve the machine's name over the network.
    environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    done = subprocess.run(
        [python, _JOB],
        input=json.dumps(asked),
        env=environ,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_S,
    )
    answer = json.loads(done.stdout)
    return str(answer["version"]), [_totals(rows) for rows in answer["answers"]]


def find_java(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The machine's Java if it is new enough, else None."""
    home = environ.get("JAVA_HOME")
    named = Path(home) / "bin" / "java" if home else None
    found = named if named is not None and named.exists() else shutil.which("java", path=environ.get("PATH"))
    if found is None:
        return None
    done = subprocess.run([found, "-version"], check=False, capture_output=True, text=True)
    version = re.search(r'version "(\d+)', done.stderr)
    return Path(found) if version is not None and int(version[1]) >= LEAST_JAVA else None


def why_no_spark(environ: Mapping[str, str] = os.environ) -> str:
    """Install Spark if it is missing; returns why it cannot be installed, or an empty text."""
    if find_java(environ) is None:
        return f"this machine has no Java {LEAST_JAVA} or newer"
    return why_not(SPARK)


def _totals(rows: Sequence[Mapping[str, Any]]) -> Totals:
    found: Totals = {}
    for row in rows:
        line = Line(str(row["dt"]), str(row.get("hour", "")), str(row["account_id"]), str(row["usage_type"]))
        if line in found:
            raise AssertionError(f"an engine has {line} twice")
        found[line] = Sum(int(row["bytes"]), int(row["records"]))
    return found


# The statements exactly as written in docs/analytics.md.


PAGE = Path(__file__).resolve().parents[2] / "docs" / "analytics.md"
_BLOCK = re.compile(r"```\w+\n(?:--|#) ([\w ]+)\n(.*?)```", re.DOTALL)
_DAY = "2026-11-24"


def statement(name: str, *, day: str, folder: Path | None = None) -> str:
    """The SQL block of this name on the page, with another day, and with a folder in place of the bucket.

    Raises:
        KeyError: The page has no block of this name.
    """
    blocks: dict[str, str] = {found[1]: found[2] for found in _BLOCK.finditer(PAGE.read_text())}
    text = blocks[name]
    if folder is not None:
        text = re.sub("s3a?://BUCKET", str(folder), text)
    return text.replace(_DAY, day)
