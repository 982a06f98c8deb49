"""The OpenAPI document: reviewed like a template, bounded everywhere, and true of what is served.

`python -m tests.api.test_document` writes the snapshot anew; read what changed.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from metering.ledger.notes.access import Role
from tests.api.world import FIRST, TOKENS, ApiWorld, at_rest

if TYPE_CHECKING:
    from collections.abc import Iterator

SNAPSHOT = Path(__file__).with_name("openapi.json")
PUBLIC = {"/v1/health", "/openapi.json"}
_BOUNDED: dict[str, tuple[set[str], ...]] = {
    "string": ({"maxLength", "enum", "const"},),
    "integer": ({"minimum"}, {"maximum"}),
    "array": ({"maxItems"},),
}


def world() -> ApiWorld:
    """A region that no test changes."""
    return at_rest()


@cache
def document() -> dict[str, Any]:
    """The document as it is served."""
    answer = world().get("/openapi.json", None)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def masked(given: dict[str, Any]) -> str:
    """The document as the snapshot has it: no release changes it by its number alone."""
    made = deepcopy(given)
    made["info"]["version"] = "VERSION"
    return json.dumps(made, indent=2) + "\n"


def unbounded(given: object, place: str = "") -> Iterator[str]:
    """Places of schemas that say nothing of how large a value may be."""
    if isinstance(given, dict):
        needed = _BOUNDED.get(given.get("type", ""), ()) if isinstance(given.get("type"), str) else ()
        if any(names.isdisjoint(given) for names in needed):
            yield place
        for name, value in given.items():
            if name != "example":
                yield from unbounded(value, f"{place}/{name}")
    elif isinstance(given, list):
        for number, value in enumerate(given):
            yield from unbounded(value, f"{place}/{number}")


def insecure(given: dict[str, Any]) -> set[str]:
    """Paths that anyone may ask."""
    return {path for path, told in given["paths"].items() if told["get"]["security"] == []}


def test_the_document_is_the_reviewed_one() -> None:
    assert masked(document()) == SNAPSHOT.read_text(), "review it, then: python -m tests.api.test_document"


def test_every_value_is_bounded() -> None:
    assert list(unbounded(document())) == []


def test_a_value_without_a_bound_is_found() -> None:
    for schema in ({"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "array", "items": {}}):
        assert list(unbounded({"a": [schema]})) == ["/a/0"]


def test_all_but_three_need_a_token() -> None:
    assert insecure(document()) == PUBLIC
    for path in document()["paths"]:
        if path not in PUBLIC:
            assert world().get(example(path), None).status_code == 401


def test_a_path_that_anyone_may_ask_is_found() -> None:
    opened = deepcopy(document())
    opened["paths"]["/v1/usage"]["get"]["security"] = []
    assert insecure(opened) == {*PUBLIC, "/v1/usage"}


def test_every_path_of_the_document_is_served_and_no_other() -> None:
    assert set(document()["paths"]) == {each.path for each in world().app.state.resources} | {"/openapi.json"}
    operations = [told["get"] for told in document()["paths"].values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for path, told in document()["paths"].items():
        parameters = told["get"]["parameters"]
        assert len({each["name"] for each in parameters}) == len(parameters)
        inside = set(re.findall(r"\{(\w+)\}", path))
        assert {each["name"] for each in parameters if each["in"] == "path"} == inside
        assert told["get"]["description"]


def test_examples_are_what_their_schemas_allow() -> None:
    for told in document()["paths"].values():
        for each in told["get"]["parameters"]:
            if "example" in each:
                jsonschema.validate(each["example"], each["schema"])


@pytest.mark.parametrize("who", sorted(TOKENS))
def test_each_role_gets_what_the_document_says_and_its_answers_have_that_form(who: str) -> None:
    role = TOKENS[who].role
    for path, told in document()["paths"].items():
        operation = told["get"]
        if path in PUBLIC:
            continue
        answer = world().get(example(path), who)
        roles = operation["description"].rpartition("roles: ")[2].rstrip(".").split(", ")
        if role not in roles:
            assert answer.status_code == 403, path
            assert role in {Role.CUSTOMER, Role.ANALYST}
            continue
        # An example may name what is not there, or not granted.
        assert answer.status_code in {200, 403, 404, 422}, (path, answer.text)
        content = operation["responses"][str(answer.status_code)]["content"]
        [(media_type, schema)] = [(kind, told["schema"]) for kind, told in content.items() if kind.endswith("json")][:1]
        assert answer.headers["content-type"].partition(";")[0] == media_type
        jsonschema.validate(answer.json(), {**schema, "components": document()["components"]})


def example(path: str) -> str:
    """A request for a path, with what it needs."""
    parameters = document()["paths"][path]["get"]["parameters"]
    for each in parameters:
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", str(each["example"]))
    given = [f"{each['name']}={_of(each)}" for each in parameters if each["required"] and each["in"] == "query"]
    return f"{path}?{'&'.join(given)}" if given else path


def _of(parameter: dict[str, Any]) -> object:
    return FIRST if parameter["name"] == "account" else parameter["example"]


if __name__ == "__main__":
    SNAPSHOT.write_text(masked(document()))
