"""No module is too long, no folder too full, no import goes round in a circle; and each of these can be found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grimp

from tests.unit.house.measures import MOST_LINES, MOST_MODULES, circle, modules_below, too_full, too_long
from tests.unit.house.test_rooms import imports

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[3]
PRODUCTION = [ROOT / name for name in ("metering", "lambdas", "infra", "load_tests")]
# Folders that are still too full. None may be added.
KNOWN: dict[str, int] = {}


def test_no_module_is_too_long() -> None:
    assert not too_long(modules_below(PRODUCTION))


def test_a_module_of_one_line_too_many_is_found(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("pass\n" * MOST_LINES)
    (tmp_path / "long.py").write_text("pass\n" * (MOST_LINES + 1))
    assert too_long(modules_below([tmp_path])) == {tmp_path / "long.py": MOST_LINES + 1}


def test_no_folder_has_too_many_modules() -> None:
    found = too_full(modules_below(PRODUCTION))
    assert {folder.relative_to(ROOT).as_posix(): count for folder, count in found.items()} == KNOWN


def test_a_folder_of_one_module_too_many_is_found(tmp_path: Path) -> None:
    for folder, modules in (("full", MOST_MODULES), ("fuller", MOST_MODULES + 1)):
        (tmp_path / folder).mkdir()
        for name in ("__init__", *(f"module_{number}" for number in range(modules))):
            (tmp_path / folder / f"{name}.py").touch()
    assert too_full(modules_below([tmp_path])) == {tmp_path / "fuller": MOST_MODULES + 1}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = imports()
    assert not circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})


def test_a_circle_of_three_modules_is_found() -> None:
    found = circle({"top": {"a"}, "a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert found[0] == found[-1]
    assert set(found) == {"a", "b", "c"}


def test_imports_for_types_alone_count_in_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "two_in_a_circle"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "value.py").write_text("import two_in_a_circle.reader\n")
    (package / "reader.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import two_in_a_circle.value\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    graph = grimp.build_graph(package.name, cache_dir=None)
    found = circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    assert set(found) == {"two_in_a_circle.value", "two_in_a_circle.reader"}
