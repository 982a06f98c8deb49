import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from infra import bundle
from infra.bundle import LEFT_OUT, BundleTooLargeError, check_size, copy_sources, digest, prune, source_files
from metering.version import package_version
from tests import ROOT


def test_the_same_sources_have_the_same_hash() -> None:
    assert digest("arm64") == digest("arm64")
    assert digest("arm64") != digest("x86_64")


def test_a_changed_source_changes_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metering").mkdir()
    source = tmp_path / "metering" / "units.py"
    source.write_text("KIB = 1024\n")
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    before = digest()

    source.write_text("KIB = 1000\n")

    assert digest() != before


def test_another_version_is_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    monkeypatch.setattr(bundle, "package_version", lambda: "99.0.0")
    assert digest() != before


def test_a_bundle_says_its_version_as_an_installed_package_does(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    code = "import metering.version; print(metering.version.package_version(), metering.version.__file__)"

    # -S: no package of this environment is visible.
    said = subprocess.check_output([sys.executable, "-S", "-c", code], cwd=tmp_path, text=True)

    assert said.split() == [package_version(), str(tmp_path / "metering" / "version.py")]


def test_compiled_files_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metering" / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    before = digest()

    (tmp_path / "metering" / "__pycache__" / "units.cpython-313.pyc").write_bytes(b"\0")

    assert digest() == before


def test_the_size_gate_lets_a_small_bundle_through_and_stops_a_large_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x" * 1_000)

    assert check_size(tmp_path, limit_bytes=1_000) == 1_000
    with pytest.raises(BundleTooLargeError) as caught:
        check_size(tmp_path, limit_bytes=999)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (1_000, 999)


def test_pruning_keeps_the_library_without_which_the_import_fails(tmp_path: Path) -> None:
    kept = ["libarrow_substrait.so.2600", "libarrow_python.so.2600", "lib.cpython-313.so", "_compute.py"]
    removed = ["libarrow_flight.so.2600", "_flight.cpython-313.so", "libarrow_python.so.2600.1.0", "lib.pyx", "lib.pxd"]
    folder = tmp_path / "pyarrow"
    (folder / "tests").mkdir(parents=True)
    (folder / "include" / "arrow").mkdir(parents=True)
    for name in (*kept, *removed, "tests/test_array.py", "include/arrow/api.h"):
        (folder / name).write_text("")

    prune(tmp_path)

    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def test_a_bundle_holds_the_functions_and_their_data_files(tmp_path: Path) -> None:
    copy_sources(tmp_path)

    assert (tmp_path / "lambdas" / "aggregator" / "handler.py").is_file()
    assert (tmp_path / "metering" / "usage" / "billing_prefixes.json").is_file()
    assert not (tmp_path / "metering" / "cli").exists()
    assert not list(tmp_path.rglob("*.pyc"))
    # Documentation is left out, so that changing it does not redeploy a function.
    assert not list(tmp_path.rglob("*.md"))


def test_no_function_imports_what_the_bundle_leaves_out() -> None:
    # Imports for type checkers are not executed.
    graph = grimp.build_graph("metering", "lambdas", cache_dir=None, exclude_type_checking_imports=True)
    needed: set[str] = set()
    for module in graph.find_descendants("lambdas"):
        needed |= graph.find_upstream_modules(module)

    left_out = tuple(folder.replace("/", ".") for folder in LEFT_OUT)
    assert not [module for module in sorted(needed) if module.startswith(left_out)]


def test_functions_get_their_locked_dependencies_and_no_tools() -> None:
    export = [bundle.find_uv(), "export", "--frozen", "--offline", "--no-default-groups", "--group", "lambda"]
    lines = subprocess.run(
        [*export, "--no-emit-project", "--quiet"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    names = {line.split("==")[0] for line in lines if "==" in line}

    assert {"boto3", "pyarrow", "pydantic", "msgspec", "zstandard", "aws-lambda-powertools"} <= names
    assert not names & {"aws-cdk-lib", "ministack", "typer", "rich", "duckdb", "moto", "pytest"}


def test_bundling_and_deploying_import_no_cdk_until_they_need_it() -> None:
    code = "import infra.bundle, metering.fleet.stage, infra.deploy, sys; sys.exit('aws_cdk' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_source_files_come_in_a_fixed_order() -> None:
    assert list(source_files()) == list(source_files())
