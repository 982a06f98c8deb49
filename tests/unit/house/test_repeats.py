"""No logic is written twice in production code; and what is can be found."""

from __future__ import annotations

from pathlib import Path

from tests.unit.house.measures import modules_below
from tests.unit.house.repeats import MOST_LINES, logic_lines, repeats

ROOT = Path(__file__).parents[3]
PRODUCTION = [ROOT / name for name in ("metering", "lambdas", "infra", "load_tests")]
# Pairs of files that still share a run of lines. No pair may be added.
KNOWN: set[tuple[str, str]] = set()

LINES = [f"step_{number}(total)" for number in range(MOST_LINES)]


def function(name: str, *lines: str, variable: str = "total") -> str:
    body = "".join(f"    {line.replace('total', variable)}\n" for line in lines)
    return f'def {name}({variable}):\n    """About {name}."""\n{body}'


def test_no_two_places_have_the_same_logic() -> None:
    found = repeats(modules_below(PRODUCTION))
    files = {
        (Path(first).relative_to(ROOT).as_posix(), Path(second).relative_to(ROOT).as_posix())
        for first, second in ((each.first.rpartition(":")[0], each.second.rpartition(":")[0]) for each in found)
    }
    assert files == KNOWN, found


def test_one_line_more_than_is_allowed_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import os\n\n\n" + function("one", *LINES, "last(total)"))
    (tmp_path / "other.py").write_text(function("other", "first(total)", *LINES, "last(total)"))
    [found] = repeats(modules_below([tmp_path]))
    assert found == (f"{tmp_path / 'one.py'}:6", f"{tmp_path / 'other.py'}:4", MOST_LINES + 1)


def test_as_many_lines_as_are_allowed_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(function("one", *LINES))
    (tmp_path / "other.py").write_text(function("other", *LINES))
    assert not repeats(modules_below([tmp_path]))


def test_a_copy_with_other_variables_and_comments_is_found(tmp_path: Path) -> None:
    lines = [*LINES, "last(total)"]
    (tmp_path / "one.py").write_text(function("one", *lines))
    changed = [f"{line}  # as before" for line in lines]
    (tmp_path / "other.py").write_text(function("other", *changed, variable="amount"))
    assert [each.lines for each in repeats(modules_below([tmp_path]))] == [MOST_LINES + 1]


def test_a_copy_in_the_same_module_is_found(tmp_path: Path) -> None:
    lines = [*LINES, "last(total)"]
    (tmp_path / "both.py").write_text(function("one", *lines) + "\n\n" + function("other", *lines))
    assert [each.lines for each in repeats(modules_below([tmp_path]))] == [MOST_LINES + 1]


def test_calls_of_other_functions_are_other_logic(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(function("one", *LINES, "last(total)"))
    (tmp_path / "other.py").write_text(function("other", *(f"other_{line}" for line in LINES), "last(total)"))
    assert not repeats(modules_below([tmp_path]))


def test_only_logic_counts() -> None:
    source = (
        '"""Text."""\n\nimport os\n\n\ndef read(\n    path,\n):\n    # Why.\n    return os.stat(\n        path\n    )\n'
    )
    assert [line.number for line in logic_lines(source)] == [6, 7, 10, 11]
