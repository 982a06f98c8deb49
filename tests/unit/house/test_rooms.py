"""The import contracts hold, and each of them can fail: on the real imports with one more that it forbids."""

from __future__ import annotations

import re
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

if TYPE_CHECKING:
    from importlinter import Contract

ROOT = Path(__file__).parents[3]
KINDS: dict[str, type[Contract]] = {
    "forbidden": ForbiddenContract,
    "layers": LayersContract,
    "protected": ProtectedContract,
}
LAYERS = "Rooms build on the rooms below them"
DEPLOYERS = "The package does not know who deploys it"


class Offence(NamedTuple):
    """An import that one contract forbids."""

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
    Offence("boto3 lives in adapters", "metering.wiring.region", "boto3"),
    Offence("boto3 lives in adapters", "lambdas.canary.handler", "botocore"),
    Offence("pyarrow lives in formats, lake, on-ramps, reports and replay", "metering.intake.reader", "pyarrow"),
    Offence("pyarrow lives in formats, lake, on-ramps, reports and replay", "metering.lake.compactor", "pyarrow"),
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
    """The contracts as pyproject.toml has them."""
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
    """The imports of the production packages, type-only ones as well."""
    return grimp.build_graph(
        "metering", "lambdas", "infra", "load_tests", include_external_packages=True, cache_dir=None
    )


def broken(graph: grimp.ImportGraph) -> set[str]:
    """Names of the contracts that these imports break."""
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
    for package in ("metering", "lambdas", "infra", "load_tests"):
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
