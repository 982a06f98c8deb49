"""A function imports what it uses and no more: an import is paid for at each cold start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lambdas

# The command line's and the deployment's libraries, and those that only `cli` has.
_NEVER = {"aws_cdk", "duckdb", "localstack_client", "rich", "typer"}
_FUNCTIONS = sorted(path.parent.name for path in Path(lambdas.__path__[0]).glob("*/handler.py"))
# These read and write items only; the Parquet libraries would double their start.
# The on-ramp imports them for the first file, by its kind, and the API for the first request that reads rows.
_WITHOUT_ROWS = {"watch", "log_context", "onramp", "api"}


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_a_function_imports_no_more_than_it_uses(name: str) -> None:
    code = f"import lambdas.{name}.handler, sys; print(*{{each.partition('.')[0] for each in sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env={})
    imported = set(found.stdout.split())

    assert not imported & _NEVER
    assert ("pyarrow" not in imported) == (name in _WITHOUT_ROWS)
