"""Two revisions' answers are compared byte by byte, and a document by what it promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.equal.__main__ import differences, facts, judged

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT = {
    "paths": {"/v1/usage": {"get": {"parameters": [{"name": "top", "schema": {"maximum": 50}}], "summary": "Usage"}}}
}


def _answers(folder: Path, **contents: str) -> Path:
    folder.mkdir()
    for name, text in contents.items():
        (folder / name).write_text(text)
    return folder


def test_a_changed_byte_and_a_lost_answer_are_found(tmp_path: Path) -> None:
    before = _answers(tmp_path / "before", same="1", changed="a,12\n", lost="1")
    after = _answers(tmp_path / "after", same="1", changed="a,13\n", new="1")
    found = dict(differences(before, after))
    assert found == {"changed": "at byte 3: b'a,12\\n' is b'a,13\\n'", "lost": "is gone"}
    assert judged(iter(found.items()), {"lo*": "the command went"}) == (
        [f"changed: {found['changed']}"],
        ["lost: the command went"],
    )


def test_a_document_may_say_more_and_in_other_words_but_nothing_less(tmp_path: Path) -> None:
    text = json.dumps(DOCUMENT)
    more = text.replace('"Usage"', '"Bytes"').replace('"paths": {', '"paths": {"/v1/new": {"get": {}}, ')
    less = text.replace("50", "40")
    before = _answers(tmp_path / "before", **{"openapi.json": text})
    assert not list(differences(before, _answers(tmp_path / "more", **{"openapi.json": more})))
    [(name, how)] = differences(before, _answers(tmp_path / "less", **{"openapi.json": less}))
    assert (name, how) == (
        "openapi.json /paths//v1/usage/get/parameters/top/schema/maximum=50",
        "is gone",
    )


def test_the_place_of_a_parameter_in_its_list_says_nothing() -> None:
    one, other = ({"name": "top"}, {"name": "last"})
    assert facts([one, other]) == facts([other, one])
