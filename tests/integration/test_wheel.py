"""The shipped release: a wheel, built from the sdist and installed in an empty environment, works without the sources.

Packages come from PyPI, or from the cache that `make install` filled.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.bundle import find_uv
from metering.adapters.emulator import ministack
from metering.operations.alarms import ALARMS
from metering.version import DISTRIBUTION, package_version
from tests import ROOT

VERSION = package_version()
# Pages that the command line prints, and what the bundles of the functions are installed by.
COPIED = {"metering/cli/help/architecture.md", "infra/pyproject.toml", "infra/uv.lock"}
ROOMS = ("metering", "infra", "lambdas")
EMBEDDED = "infra/assemblies/"
# The environment without the variables for the tester's account, emulator and endpoint.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "METERING_", "PYTHON"))}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel, made as `make dist` makes them; uv builds the wheel from the sdist."""
    folder, tree = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("tree") / "metering"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", ".local", "*cache*", "build", "dist"))
    shutil.rmtree(tree / EMBEDDED, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "infra.artefact", str(tree / EMBEDDED), "local"], cwd=ROOT, check=True)
    subprocess.run([find_uv(), "build", "--quiet", "--out-dir", str(folder)], cwd=tree, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"transfer_metering-{VERSION}-py3-none-any.whl"


def install(folder: Path, requirement: str) -> Path:
    """Create an environment, install a requirement in it, and return the path of its `metering`."""
    subprocess.run([find_uv(), "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    pip = [find_uv(), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, requirement], check=True, cwd=folder)
    return folder / "bin" / "metering"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of `metering` in an environment that has only the wheel and the extras of the command line."""
    return install(tmp_path_factory.mktemp("empty"), f"{DISTRIBUTION}[cli] @ {wheel.as_uri()}")


def run(program: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program outside of the checkout."""
    return subprocess.run(
        [str(program), *arguments],
        cwd=program.parent,
        env={**ENVIRON, "AWS_EC2_METADATA_DISABLED": "true", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_the_wheel_has_every_module_and_data_file_and_the_licences(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "assemblies" not in path.parts
    }
    samples = "metering/replay/samples/aws-bill-lines"
    book = "metering/billing/prices/sample"
    assert {"metering/usage/billing_prefixes.json", f"{samples}/README.md", f"{samples}/records.ndjson"} <= ours
    assert {f"{samples}/sku_prices.csv", f"{book}/README.md", f"{book}/book.json", f"{book}/book-1.json"} <= ours
    # The runbooks have a single source, in the documentation.
    pages = {f"metering/operations/runbooks/{path.name}" for path in (ROOT / "docs" / "runbooks").iterdir()}
    packed = {name for name in names if name.partition("/")[0] in ROOMS}
    assert {name for name in packed if not name.startswith(EMBEDDED)} == ours | pages | COPIED
    assert f"{EMBEDDED}release.json" in packed
    assert f"transfer_metering-{VERSION}.dist-info/licenses/LICENSE" in names
    vendored = "metering/api/static/vendor"
    assert {f"{vendored}/uPlot.iife.min.js", f"{vendored}/LICENSE"} <= names
    licence = zipfile.ZipFile(wheel).read(f"{vendored}/LICENSE").decode()
    notice = zipfile.ZipFile(wheel).read(f"transfer_metering-{VERSION}.dist-info/licenses/NOTICE").decode()
    # Third-party work is named with its licence: uPlot's licence in full, that of the sample data by name and address.
    assert " ".join(licence.split()) in " ".join(notice.split())
    for needed in ("uPlot", "FOCUS Sample Data", "CC BY 4.0", samples, book):
        assert needed in notice, needed
    # The samples are third-party work, and their licence must be stated next to them.
    for folder in (samples, book):
        assert "CC BY 4.0" in zipfile.ZipFile(wheel).read(f"{folder}/README.md").decode()


def test_the_sdist_has_what_a_deployment_and_the_tests_need(built: Path) -> None:
    with tarfile.open(built / f"transfer_metering-{VERSION}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for needed in (
        "Makefile",
        "uv.lock",
        "LICENSE",
        "NOTICE",
        "infra/deploy.py",
        "lambdas/aggregator/handler.py",
        "tests/gate.py",
    ):
        assert needed in names, needed
    assert not [name for name in names if name.startswith((".venv", ".local", "dist"))]


@pytest.mark.parametrize("words", ["--help", "report --help", "report usage --help", "verify --help", "replay --help"])
def test_help_works_without_the_sources(words: str, installed: Path) -> None:
    done = run(installed, *words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout


_PLACE = "--region eu-west-1 --stage prod"
# One process prints all pages, because starting a process per page would take longer.
_RUNBOOKS = """
import json, sys
from metering.cli.app import app
from typer.testing import CliRunner

for name in sys.argv[1:]:
    words = ["runbook", f"metering-prod-{name}", "--region", "eu-west-1", "--format", "json"]
    done = CliRunner().invoke(app, words, prog_name="metering")
    print(json.dumps([done.exit_code, done.output]))
"""


def test_every_runbook_is_shown_without_the_sources_and_without_a_network(installed: Path) -> None:
    names = sorted({spec.runbook for spec in ALARMS})
    done = run(installed.with_name("python"), "-c", _RUNBOOKS, *names)
    assert (done.returncode, done.stderr) == (0, "")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, (code, text) in zip(names, shown, strict=True) if code or _PLACE not in text] == []
    one = run(installed, "runbook", f"metering-prod-{names[0]}", "--region", "eu-west-1", "--format", "json")
    assert (one.returncode, one.stderr) == (0, "")
    assert _PLACE in one.stdout


def test_the_installed_command_says_its_versions(installed: Path) -> None:
    done = run(installed, "--version")
    assert (done.returncode, done.stdout.split(" (")[0]) == (0, f"metering {VERSION}")


@pytest.mark.parametrize("words", [
    "report usage", "report usage --region all", "verify", "compact", "query 1", "dlq list", "sources", "alerts list",
    "replay --scenario clean", "region plan", "region status", "region add eu-west-1 --dry-run",
])  # fmt: skip
def test_commands_on_a_region_need_no_sources(words: str, installed: Path) -> None:
    done = run(installed, *words.split(), "--endpoint", "http://127.0.0.1:9")
    assert (done.returncode in {1, 2}, done.stdout) == (True, "")
    assert "checkout" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("words", "package", "extra"), [
    ("demo", "ministack", "demo"), ("local up", "ministack", "demo"), ("region add eu-west-1", "aws_cdk", "deploy"),
    ("region reconcile", "aws_cdk", "deploy"),
])  # fmt: skip
def test_commands_that_need_another_extra_say_so(words: str, package: str, extra: str, installed: Path) -> None:
    done = run(installed, *words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"Error: This command needs {package}, which this installation lacks.",
        f"Install the package with its extra: transfer-metering[{extra}].",
    ]


def test_the_demo_has_what_the_functions_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {*project["dependency-groups"]["lambda"]} <= {*project["project"]["optional-dependencies"]["demo"]}


@pytest.fixture(scope="module")
def complete(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of `metering` in an environment with the extra of the demo."""
    return install(tmp_path_factory.mktemp("complete"), f"{DISTRIBUTION}[demo] @ {wheel.as_uri()}")


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Endpoint of an emulator."""
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    running = ministack.start(ministack.free_port(), region="us-east-1")
    yield running.endpoint
    ministack.stop(running.pid)


def test_an_installed_package_plans_a_deployment(installed: Path, emulator: str) -> None:
    done = run(installed, "deploy", "--stage", "prod", "--dry-run", "--endpoint", emulator)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"Rehearsal of stage prod, version {VERSION}" in done.stderr
    assert "us-east-1: nothing is deployed yet" in done.stderr


@pytest.mark.long
def test_an_installed_package_runs_the_demo_to_its_end(complete: Path, tmp_path: Path) -> None:
    done = run(complete, "demo", "--batches", "60", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout
    assert "0 lost, 0 counted twice, 0 unexpected." in done.stdout
    assert not list(complete.parents[1].rglob(".local"))


@pytest.mark.long
def test_an_installed_package_deploys_what_a_checkout_assembled(complete: Path, emulator: str, tmp_path: Path) -> None:
    place = ("--stage", "prod", "--endpoint", emulator)
    folder, home = str(tmp_path / "assemblies"), {"HOME": str(tmp_path)}
    assert importlib.util.find_spec("aws_cdk") is not None
    assert not [*complete.parents[1].rglob("aws_cdk")]
    made = run(Path(sys.executable).with_name("metering"), "deploy", *place, "--make-assembly", folder)
    assert (made.returncode, made.stdout) == (0, ""), made.stderr
    other = run(complete, "deploy", *place, "--assembly", folder, "--dry-run", "--set", "max_concurrency=9", **home)
    assert other.returncode == 1
    assert "was made for other settings: max_concurrency" in " ".join(other.stderr.split())
    planned = run(complete, "deploy", *place, "--assembly", folder, "--dry-run", **home)
    sha256 = hashlib.sha256((tmp_path / "assemblies" / "release.json").read_bytes()).hexdigest()
    assert (planned.returncode, sha256 in planned.stderr) == (0, True), planned.stderr
    done = run(complete, "deploy", *place, "--assembly", folder, "--no-pager", "--yes", "--format", "json", **home)
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in json.loads(done.stdout)["rows"]] == ["ready"]


def test_an_installed_package_leaves_nothing_beside_itself(installed: Path) -> None:
    run(installed, "local", "up")
    assert not list(installed.parents[1].rglob(".local"))


def test_the_package_without_its_extra_says_what_is_missing(wheel: Path, tmp_path: Path) -> None:
    done = run(install(tmp_path / "bare", str(wheel)), "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "Install the package with its extra: transfer-metering[cli]."
