"""Tools with separate environments below `.local/tools`; each is created once per version of the tool's lock file.

python -m tests.tools            installs what is missing, and removes what an older lock left
python -m tests.tools pythons    runs the quick suites on every Python that the package supports
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.bundle import find_uv
from tests import ROOT

TOOLS = ROOT / ".local" / "tools"
# `requires-python` of the package.
PYTHONS = ("3.11", "3.12", "3.13")
QUICK_SUITES = ("tests/unit", "tests/property", "tests/cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool with a separate Python environment.

    Attributes:
        name: Prefix of its folder.
        python: Its Python version. If a machine lacks the version, the tool is skipped with a message.
        lock: Files that define the environment.
        requirements: Requirement files to install, in this order, each with versions and hashes. Empty if the tool is
            the project itself, from `uv.lock`.
        sources: Required packages published without a wheel; they are built with the packages installed before them.
    """

    name: str
    python: str
    lock: tuple[Path, ...]
    requirements: tuple[Path, ...] = ()
    sources: tuple[str, ...] = ()

    def folder(self, tools: Path = TOOLS) -> Path:
        """The folder `.local/tools/<name>-<hash of the lock>`, so that each lock has a separate folder."""
        digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in self.lock)).hexdigest()
        return tools / f"{self.name}-{digest[:12]}"

    def is_installed(self, tools: Path = TOOLS) -> bool:
        """Whether the installation was completed."""
        return (self.folder(tools) / ".installed").exists()


SUPPORTED = tuple(
    Tool(name=f"python{version}", python=version, lock=(ROOT / "uv.lock", ROOT / "pyproject.toml"))
    for version in PYTHONS
)
_LOCK = ROOT / "tests" / "validators" / "lock"
# The export validators need NumPy 1.26, which has wheels up to Python 3.12.
EXPORT_VALIDATORS = Tool(
    name="export-validators",
    python="3.12",
    lock=(_LOCK / "build.txt", _LOCK / "tools.txt"),
    requirements=(_LOCK / "build.txt", _LOCK / "tools.txt"),
    sources=("focus-validator", "pandasql"),
)
_ENGINES = ROOT / "tests" / "engines" / "lock"
# There is no wheel of Spark's Python package.
SPARK = Tool(
    name="spark",
    python="3.13",
    lock=(_ENGINES / "build.txt", _ENGINES / "tools.txt"),
    requirements=(_ENGINES / "build.txt", _ENGINES / "tools.txt"),
    sources=("pyspark",),
)
# Any Python that the package supports; each pins packages of its own.
CFN_LINT, CHECKOV = (
    Tool(name=name, python=">=3.11,<3.14", lock=(lock,), requirements=(lock,))
    for name in ("cfn-lint", "checkov")
    for lock in (ROOT / "tests" / "linters" / "lock" / f"{name}.txt",)
)
ALL = (*SUPPORTED, EXPORT_VALIDATORS, CFN_LINT, CHECKOV)


def install(tool: Tool, *, tools: Path = TOOLS) -> bool:
    """Install a tool if it is missing; returns False if the machine lacks the tool's Python.

    Raises:
        CalledProcessError: It cannot be installed.
    """
    remove_older(tool, tools=tools)
    if tool.is_installed(tools):
        return True
    python = find_python(tool)
    if not python:
        return False
    folder = tool.folder(tools)
    if tool.requirements:
        _install_requirements(tool, folder, python)
    else:
        environ = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder)}
        environ.pop("VIRTUAL_ENV", None)
        sync = ["sync", "--quiet", "--frozen", "--all-extras", "--no-python-downloads", "--python", python]
        subprocess.run([find_uv(), *sync], cwd=ROOT, env=environ, check=True)
    (folder / ".installed").touch()
    return True


def why_not(tool: Tool) -> str:
    """Install a tool if it is missing; returns why it cannot be installed, or an empty text."""
    try:
        return "" if install(tool) else f"this machine has no Python {tool.python}"
    except subprocess.CalledProcessError as error:
        said = f"{' '.join(map(str, error.cmd[:4]))} … ended with {error.returncode}"
        return f"the environment of {tool.name} cannot be made: {said}"


def _install_requirements(tool: Tool, folder: Path, python: str) -> None:
    """Install requirement files, verifying hashes. Modules are compiled at once, because each run imports them."""
    uv = find_uv()
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", python, str(folder)], cwd=ROOT, check=True)
    wheels = ["--only-binary", ":all:", *(word for name in tool.sources for word in ("--no-binary", name))]
    for listed in tool.requirements:
        pip = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "--compile-bytecode"]
        exactly = ["--require-hashes", "--no-deps", "--no-build-isolation", *wheels, "--requirement", str(listed)]
        subprocess.run([*pip, *exactly], cwd=ROOT, check=True)


def remove_older(tool: Tool, *, tools: Path = TOOLS) -> None:
    """Remove installations of the tool that were made from other lock files."""
    for folder in tools.glob(f"{tool.name}-*"):
        if folder != tool.folder(tools):
            shutil.rmtree(folder)


def find_python(tool: Tool, environ: Mapping[str, str] = os.environ) -> str:
    """Path of a tool's Python; empty if the machine does not have that Python.

    The project's suites use only the Python on the PATH, which is the developer's choice. Other tools may also use a
    Python from a version manager's folder, because the manager's shims on the PATH fail for unselected versions.
    """
    find = [find_uv(), "python", "find", "--system", "--no-python-downloads", tool.python]
    found = subprocess.run(find, cwd=ROOT, check=False, capture_output=True, text=True)
    if found.returncode == 0:
        return found.stdout.strip()
    kept = _kept_by_managers(tool.python, environ) if tool.requirements else []
    return next((str(path) for path in kept if _runs(path)), "")


def _kept_by_managers(version: str, environ: Mapping[str, str]) -> list[Path]:
    """Interpreters of a version below the folders of pyenv and of hosted CI machines."""
    pyenv = Path(environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    hosted = Path(environ.get("RUNNER_TOOL_CACHE") or environ.get("AGENT_TOOLSDIRECTORY") or "/opt/hostedtoolcache")
    kept = [
        *pyenv.glob(f"versions/{version}.*/bin/python{version}"),
        *hosted.glob(f"Python/{version}.*/x64/bin/python{version}"),
    ]
    return sorted(kept, reverse=True)


def _runs(python: Path) -> bool:
    return subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0


def run_pythons(tools: Sequence[Tool] = SUPPORTED, *, suites: Sequence[str] = QUICK_SUITES, jobs: str = "2") -> int:
    """Run the quick suites on each Python; return 0 only if two or more are available and all pass."""
    codes: dict[str, int | None] = {}
    for tool in tools:
        if not install(tool):
            codes[tool.name] = None
            continue
        sys.stdout.write(f"== {tool.name}\n")
        sys.stdout.flush()
        command = [str(tool.folder() / "bin" / "python"), "-m", "pytest", "-q", "-n", jobs, *suites]
        codes[tool.name] = subprocess.run(command, cwd=ROOT, check=False).returncode
    for name, code in codes.items():
        said = "skipped: this machine does not have it" if code is None else "passed" if code == 0 else "FAILED"
        sys.stdout.write(f"{name}: {said}\n")
    ran = [code for code in codes.values() if code is not None]
    return 0 if len(ran) > 1 and not any(ran) else 1


def main(arguments: Sequence[str]) -> int:
    """The argument `pythons` runs the suites; without arguments, all tools are installed."""
    if arguments:
        return run_pythons(jobs=arguments[1] if len(arguments) > 1 else "2") if arguments[0] == "pythons" else 2
    for tool in ALL:
        said = str(tool.folder()) if install(tool) else f"skipped: this machine has no Python {tool.python}"
        sys.stdout.write(f"{tool.name}: {said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
