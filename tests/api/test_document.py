"""The OpenAPI document: reviewed as a snapshot, with bounds on every schema, and consistent with the served API.

`python -m tests.api.test_document` writes the snapshot; review its diff.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from metering.api.authentication import Limits
from metering.api.parameters import GROUP_BY
from metering.ledger.notes.access import Role
from metering.reports.query import ACCOUNT
from tests.api.world import FIRST, TOKENS, ApiWorld
from tests.api.world import at_rest as world
from tests.api_fuzz.__main__ import told as fuzz_told
from tests.api_fuzz.faults import FAULTS
from tests.api_fuzz.fuzzing import Findings, Issue, Outcome, in_process, judged

SNAPSHOT = Path(__file__).with_name("openapi.json")
PUBLIC = {"/v1/health", "/openapi.json"}
_BOUNDED: dict[str, tuple[set[str], ...]] = {
    "string": ({"maxLength", "enum", "const"},),
    "integer": ({"minimum"}, {"maximum"}),
    "array": ({"maxItems"},),
}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document in the form in which it is served."""
    answer = world().get("/openapi.json", None)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def masked(given: dict[str, Any]) -> str:
    """The document in the snapshot's form; the version is omitted, so that releases do not change the snapshot."""
    made = deepcopy(given)
    made["info"]["version"] = "VERSION"
    return json.dumps(made, indent=2) + "\n"


def unbounded(given: object, place: str = "") -> Iterator[str]:
    """Paths of schemas that set no upper bound."""
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
    """Paths without authentication."""
    return {path for path, told in given["paths"].items() if told["get"]["security"] == []}


def test_the_document_is_the_reviewed_one() -> None:
    assert masked(document()) == SNAPSHOT.read_text(), "review it, then: python -m tests.api.test_document"


def test_every_value_is_bounded_and_one_without_a_bound_is_found() -> None:
    assert list(unbounded(document())) == []
    for schema in ({"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "array", "items": {}}):
        assert list(unbounded({"a": [schema]})) == ["/a/0"]


def test_all_but_three_need_a_token() -> None:
    assert insecure(document()) == PUBLIC
    for path in document()["paths"]:
        if path not in PUBLIC:
            assert world().get(example(path), None).status_code == 401
    # The test finds a path without authentication.
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
        # An example may name something that does not exist or is not granted.
        assert answer.status_code in {200, 403, 404, 422}, (path, answer.text)
        content = operation["responses"][str(answer.status_code)]["content"]
        [(media_type, schema)] = [(kind, told["schema"]) for kind, told in content.items() if kind.endswith("json")][:1]
        assert answer.headers["content-type"].partition(";")[0] == media_type
        jsonschema.validate(answer.json(), {**schema, "components": document()["components"]})


def example(path: str) -> str:
    """A request for a path, with its required parameters."""
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


# Documentation of the API: its requests work as written, and its numbers equal those that the program uses.
PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
_REQUEST = re.compile(
    r'^curl -s(?P<held>H "Authorization: Bearer \$METERING_(?:TOKEN|SIGN_IN)")? "\$METERING_URL(?P<path>/[^"]+)"$',
    re.MULTILINE,
)


def test_every_request_can_be_sent_as_it_stands() -> None:
    requests = list(_REQUEST.finditer(PAGE))
    assert len(requests) == PAGE.count("\ncurl ") >= 6
    for each in requests:
        # The gateway's claims about a person are in the tests of the function.
        answer = world().get(each["path"].removeprefix("/people"), "analyst" if each["held"] else None)
        assert answer.status_code == 200, (each["path"], answer.text)


def test_the_paths_and_their_roles_are_those_of_the_program() -> None:
    rows = re.findall(r"^\| (`/v1/[^|]+) \| ([^|]+) \| ", PAGE, re.MULTILINE)
    told = {path.partition("?")[0]: who for cell, who in rows for path in re.findall(r"`([^`]+)`", cell)}
    assert set(told) == {each.path for each in world().app.state.resources}
    for each in world().app.state.resources:
        roles = {"all": {grant.role for grant in TOKENS.values()}}.get(told[each.path])
        if each.public:
            assert told[each.path] == "anyone"
        elif roles is None:
            assert {f"{role}s" for role in each.roles} == set(told[each.path].split(", "))
        else:
            assert each.roles == roles


def test_the_limits_are_those_of_the_program() -> None:
    limits = Limits()
    cells = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.partition("## Limits")[2], re.MULTILINE))
    assert cells["months; years"] == f"{limits.months}; from {limits.first_year} to the next month"
    assert cells["accounts that are named; accounts times months"] == f"{ACCOUNT.most_values}; {limits.partitions}"
    assert cells["columns to group by"] == str(GROUP_BY.most_values)
    rows = f"{limits.json_rows:,}; {limits.table_rows:,}; {limits.summed_rows:,}"
    assert cells["rows: JSON; CSV, NDJSON and Parquet; summed for pages"] == rows
    assert cells["bytes of an answer, as a function hands it over"] == f"{limits.answer_bytes:,}"
    assert cells["seconds"] == f"{limits.deadline_s:g}"
    assert cells["requests of one token"] == f"{limits.token_rate_per_s:g} a second, {limits.token_burst} at once"
    [hours] = [text for name, text in cells.items() if name.startswith("hours that are read")]
    assert hours.startswith(f"{limits.hours} with rows")


def test_the_problem_that_is_shown_is_the_one_that_is_told() -> None:
    told = world().get("/v1/usage?acount=123456789012").json()
    assert all(f'"{name}": "{told[name]}"' in PAGE for name in ("type", "title"))
    assert told["detail"].startswith("There is no parameter acount. Nearest: account. There are: ")


# `make api-fuzz` fails on any finding, on a seeded fault that it does not detect, and if no answer had data.
ISSUE = Issue(operation="GET /v1/usage", kind="ignored_auth", told="It answers anybody.", code="curl …")


@pytest.mark.parametrize(
    ("issues", "answered", "good"),
    [((), 3, True), ((ISSUE,), 3, False), ((), 0, False)],
    ids=["clean", "issue", "empty"],
)
def test_a_run_is_good_without_an_issue_and_with_data(issues: tuple[Issue, ...], answered: int, good: bool) -> None:
    found = Findings(
        issues={(each.operation, each.kind): each for each in issues},
        answers=Counter({("GET /v1/usage", 200): answered, ("GET /v1/usage", 400): 9}),
    )
    outcome = judged("analyst", found, 0.0, url="")
    assert outcome.good == good
    assert (str(ISSUE) in outcome.told) == bool(issues)


def test_one_outcome_that_is_not_good_makes_the_whole_red(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = (Outcome(name="x", told="y", good=each) for each in (True, False))
    assert (fuzz_told([good, good]), fuzz_told([good, bad])) == (0, 1)
    assert capsys.readouterr().out.count("RED") == 1


@pytest.mark.long
def test_a_seeded_fault_is_found_and_the_application_without_it_is_clean() -> None:
    """The fuzzer's own checks would not find this seeded fault."""
    fault = FAULTS[0]
    app = ApiWorld().app
    clean, spoilt = (
        in_process(each, token="analyst", examples=20, paths="^/v1/freshness$", phases=("fuzzing",))
        for each in (app, fault.spoils(app))
    )
    assert not clean.issues
    assert clean.answered("GET /v1/freshness")
    assert ("GET /v1/freshness", fault.kind) in spoilt.issues
