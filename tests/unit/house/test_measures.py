"""No modules import each other in a cycle, and a cycle is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grimp

from tests.unit.house.measures import circle
from tests.unit.house.test_source import imports

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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
