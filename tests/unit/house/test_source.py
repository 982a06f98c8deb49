"""Import contracts hold, without cycles; each key format is in one place; SDK calls are only in adapters."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from copy import deepcopy
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

import lambdas
import metering
from metering import metric_names
from metering.adapters.aws.session import Clients, _Named
from tests import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

    from importlinter import Contract

# The import contracts hold, and each contract fails if one forbidden import is added.

PRODUCTION = ("metering", "lambdas", "infra", "load_tests")
KINDS: dict[str, type[Contract]] = {
    "forbidden": ForbiddenContract,
    "layers": LayersContract,
    "protected": ProtectedContract,
}
LAYERS = "Rooms build on the rooms below them"
DEPLOYERS = "The package does not know who deploys it"


class Offence(NamedTuple):
    contract: str
    importer: str
    imported: str


OFFENCES = (
    Offence(LAYERS, "metering.ledger.markers", "metering.lake.compactor"),
    Offence(LAYERS, "metering.reports.source", "metering.cli.printing.output"),
    Offence(LAYERS, "metering.units", "metering.settings"),
    Offence(LAYERS, "metering.api", "metering.cli.app"),
    Offence(LAYERS, "metering.client", "metering.api"),
    Offence(LAYERS, "metering.replay.sender", "metering.producer"),
    Offence(LAYERS, "metering.a_room_without_a_place", "metering.units"),
    Offence(DEPLOYERS, "metering.fleet.stage", "infra.stacks.data"),
    Offence(DEPLOYERS, "metering.wiring.jobs", "lambdas.compactor.handler"),
    Offence(DEPLOYERS, "metering.replay.sender", "load_tests.booked_usage"),
    Offence("Only load tests build on tests", "metering.replay.sender", "tests"),
    Offence("Only load tests build on tests", "lambdas.canary.handler", "tests"),
    Offence("Only commands restore", "lambdas.watch.handler", "metering.restore.steps"),
    Offence("boto3 lives in adapters", "metering.wiring.region", "boto3"),
    Offence("boto3 lives in adapters", "lambdas.canary.handler", "botocore"),
    Offence("pyarrow lives in formats, lake, on-ramps, causes, reports, replay", "metering.intake.reader", "pyarrow"),
    Offence("pyarrow lives in formats, lake, on-ramps, causes, reports, replay", "metering.lake.compactor", "pyarrow"),
    Offence("duckdb lives in reports", "metering.audit.rebuild", "duckdb"),
    Offence("typer and rich live in the command line", "metering.reports.source", "rich"),
    Offence("typer and rich live in the command line", "lambdas.reconciler.handler", "typer"),
    Offence("The web framework lives in the API", "metering.cli.app", "fastapi"),
    Offence("The web framework lives in the API", "lambdas.canary.handler", "fastapi"),
    Offence("CDK lives in infra", "metering.fleet.stage", "aws_cdk"),
    Offence("CDK lives in infra", "load_tests.costs", "constructs"),
    Offence("Powertools lives in lambdas", "metering.adapters.aws.session", "aws_lambda_powertools"),
    Offence("Expected totals are independent of the rules", "metering.replay.records", "metering.usage.usage_types"),
    Offence("Expected totals are independent of the rules", "metering.replay.network", "metering.onramps.rules"),
)


@cache
def contracts() -> tuple[Contract, ...]:
    configuration = read_configuration(str(ROOT / "pyproject.toml"))
    return tuple(
        KINDS[options["type"]](
            name=options["name"],
            session_options=configuration["session_options"],
            contract_options={name: value for name, value in options.items() if name not in ("name", "type")},
        )
        for options in configuration["contracts_options"]
    )


@cache
def imports() -> grimp.ImportGraph:
    """The imports of the production packages, including type-only imports."""
    return grimp.build_graph(*PRODUCTION, include_external_packages=True, cache_dir=None)


def broken(graph: grimp.ImportGraph) -> set[str]:
    return {each.name for each in contracts() if not each.check(deepcopy(graph), verbose=False).kept}


def test_the_imports_break_no_contract() -> None:
    assert not broken(imports())


@pytest.mark.parametrize("offence", OFFENCES, ids=lambda offence: f"{offence.importer} -> {offence.imported}")
def test_one_forbidden_import_breaks_its_contract_and_no_other(offence: Offence) -> None:
    graph = deepcopy(imports())
    for module in (offence.importer, offence.imported):
        parents = module.split(".")
        for length in range(1, len(parents) + 1):
            if (name := ".".join(parents[:length])) not in graph.modules:
                graph.add_module(name)
    assert not graph.direct_import_exists(importer=offence.importer, imported=offence.imported)
    graph.add_import(importer=offence.importer, imported=offence.imported)
    assert broken(graph) == {offence.contract}


def test_every_contract_is_shown_to_fail() -> None:
    assert {offence.contract for offence in OFFENCES} == {contract.name for contract in contracts()}


def test_the_command_of_the_gate_fails_on_a_broken_contract(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for package in PRODUCTION:
        for source in (ROOT / package).rglob("*.py"):
            copy = tree / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    (tree / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tree / "metering" / "units.py").write_text("import boto3\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "metering.units -> boto3" in ended.stdout
    assert f"{len(contracts()) - 1} kept, 1 broken" in ended.stdout


def test_the_truth_of_generated_networks_is_independent_of_the_rules() -> None:
    sources = [path.read_text() for path in (ROOT / "tests/support/networks").glob("*.py")]
    imported = {name for source in sources for name in re.findall(r"(?:from|import) (metering\S*)", source)}
    assert imported == {"metering.replay.network", "metering.units"}


# Shared spellings have one definition: ledger keys are in the ledger, and counters are in one module.

# These modules handle items of any shape: the port, its adapters, a store that computes items, a benchmark that reads
# the table without our code, counters inside an emulator, and the rivals' tables.
_CARRIERS = (
    "metering/stores/writes.py", "metering/adapters/", "load_tests/scale/items.py", "load_tests/bench_report.py",
    "load_tests/race/", "load_tests/wire/",
)  # fmt: skip
_FORMAT = re.compile(r"[A-Z0-9][#$]")


def _modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def key_formats(source: str, *, carrier: bool = False) -> Iterator[int]:
    """Lines with a hard-coded key format of the ledger or the usage table."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _FORMAT.match(node.value):
            yield node.lineno
        elif isinstance(node, ast.Attribute) and node.attr == "pk" and isinstance(node.value, ast.Call):
            # `pending_key(shard, "").pk` is the key of no item, and only its partition is used.
            yield node.lineno
        elif isinstance(node, ast.Subscript) and not carrier:
            named = isinstance(node.slice, ast.Constant) and node.slice.value in {"pk", "sk"}
            cut = isinstance(node.slice, ast.Slice) and ast.unparse(node.value).rpartition(".")[2] in {"pk", "sk"}
            if named or cut:
                yield node.lineno


def literal_counters(source: str) -> Iterator[int]:
    """Lines that count a metric with a literal name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "count":
            counts = ast.unparse(node.func.value).endswith("metrics")
            if counts and isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp):
                yield node.lineno


def test_no_key_format_is_outside_the_ledger() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in _modules(*PRODUCTION)
        if not path.is_relative_to(ROOT / "metering/ledger")
        for line in key_formats(path.read_text(), carrier=str(path.relative_to(ROOT)).startswith(_CARRIERS))
    ]
    assert found == []


@pytest.mark.parametrize("line", [
    'item["sk"] == "M"', 'pk.startswith("B#")', 'key = f"H#{hour}"', "batch_id = key.pk[2:]",
    'pk = pending_key(shard, "").pk', 'grant_delete(role, "P#*")',
])  # fmt: skip
def test_a_key_format_would_be_found(line: str) -> None:
    assert list(key_formats(line)) == [1]


def test_no_counter_is_named_where_it_is_counted() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in _modules("metering", "lambdas")
        for line in literal_counters(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "line", ['self.metrics.count("Rows", 3)', 'parts.metrics.count(f"Canary{verdict}")', 'metrics.count("A" + "B")']
)
def test_a_literal_counter_would_be_found(line: str) -> None:
    assert list(literal_counters(line)) == [1]


def test_no_two_counters_have_one_name() -> None:
    names = [value for name, value in vars(metric_names).items() if name.isupper()]
    assert len(names) == len(set(names)) > 30


# Only adapters call the SDK. All other code uses a port, so that a fake can replace the adapter.

_SERVICES = {name for name, value in vars(Clients).items() if isinstance(value, _Named)} | {"client"}
_ROOTS = (Path(metering.__path__[0]), Path(lambdas.__path__[0]))
_ADAPTERS = _ROOTS[0] / "adapters" / "aws"
# The composition root passes clients to adapters.
_WIRING = _ROOTS[0] / "wiring"


def _holds_clients(node: ast.expr) -> bool:
    """Whether an expression has the name `clients`, or calls this name: `self._clients(region)`."""
    if isinstance(node, ast.Call):
        return _holds_clients(node.func)
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.lstrip("_") in {"clients", "clients_of"}


def uses(source: str, *, may_hand_over: bool) -> list[int]:
    """Lines that use a service's client; with `may_hand_over`, only lines that call the client."""
    tree = ast.parse(source)
    clients = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in _SERVICES and _holds_clients(node.value)
    ]
    if not may_hand_over:
        return [node.lineno for node in clients]
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and any(node.value is c for c in clients)
    ]


def test_no_service_is_asked_outside_the_adapters() -> None:
    found = [
        f"{path.relative_to(root.parent)}:{line}"
        for root in _ROOTS
        for path in sorted(root.rglob("*.py"))
        if not path.is_relative_to(_ADAPTERS)
        for line in uses(path.read_text(), may_hand_over=path.is_relative_to(_WIRING))
    ]
    assert found == []


@pytest.mark.parametrize("call", [
    "region.clients.sns.publish(TopicArn=topic)",
    "self._clients.sts.get_caller_identity()",
    "self._clients_of(region).lambda_.invoke(FunctionName=name)",
    'clients.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)',
])  # fmt: skip
def test_a_call_would_be_seen(call: str) -> None:
    assert uses(call, may_hand_over=False) == uses(call, may_hand_over=True) == [1]


def test_wiring_may_hand_a_client_to_an_adapter_and_others_may_not() -> None:
    handed = "SqsQueue(self.clients.sqs, url)"
    assert uses(handed, may_hand_over=True) == []
    assert uses(handed, may_hand_over=False) == [1]


# There are no import cycles between modules, and if there were a cycle, it would be found.


def circle(imports: Mapping[str, Set[str]]) -> list[str]:
    """An import cycle of modules, with the first module repeated at the end; empty if there is no cycle.

    Args:
        imports: Module -> the modules that it imports.
    """
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


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
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import two_in_a_circle.value\n"
    (package / "reader.py").write_text(for_types)
    monkeypatch.syspath_prepend(tmp_path)
    graph = grimp.build_graph(package.name, cache_dir=None)
    found = circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    assert set(found) == {"two_in_a_circle.value", "two_in_a_circle.reader"}
