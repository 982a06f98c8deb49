"""Hold all templates against cfn-lint and checkov: `make lint-templates`.

They are those of the snapshots, and of a stage with all settings. Each finding needs a reason, each reason a finding,
and each seeded one must be found. If an environment cannot be created, this is skipped, or fails if `CI` is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tests.infra.conftest  # noqa: F401  # which Node to use
from infra.assembly import templates
from metering.fleet.stage import StageConfig
from tests.infra.snapshots import FOLDER
from tests.infra.support.organisation import EVERYTHING
from tests.linters.reasons import REASONS, SEEDS, Finding, Reason, Seed
from tests.tools import CFN_LINT, CHECKOV, Tool, why_not

# The stage with all settings, and a copy with what is seeded.
ALL, SEEDED = "everything", "seeded"
_TIMEOUT_S = 600


def templates_by_stage() -> dict[str, dict[str, Any]]:
    """Templates by stage and stack."""
    from tests.infra.support.synthesis import app_of

    reviewed = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    app, _ = app_of(StageConfig.load("prod", EVERYTHING))
    app.synth()
    everything = {name.rpartition("-")[2]: each for name, each in templates(Path(app.outdir)).items()}
    return {
        **{stage: {part: each["template"] for part, each in parts.items()} for stage, parts in reviewed.items()},
        ALL: everything,
        SEEDED: seeded(everything, SEEDS),
    }


def seeded(parts: Mapping[str, Any], seeds: Sequence[Seed]) -> dict[str, Any]:
    """The stacks that seeds change, with all changes."""
    changed = {part: deepcopy(parts[part]) for part in {seed.part for seed in seeds}}
    for seed in seeds:
        resources = changed[seed.part]["Resources"]
        [found] = [each for name, each in resources.items() if seed.is_at(seed.part, name)]
        seed.change(found)
    return changed


def cfn_lint(folder: Path, stages: Sequence[str], regions: str) -> list[Finding]:
    """Findings in the templates of stages, in some regions."""
    files = sorted(str(path.relative_to(folder)) for stage in stages for path in (folder / stage).iterdir())
    said = _run(CFN_LINT, "cfn-lint", "--format", "json", "--regions", regions, "--", *files, folder=folder)
    return [
        Finding(
            rule=each["Rule"]["Id"],
            place=f"{each['Filename'].removesuffix('.json')}/{[*(each['Location']['Path'] or ()), '', ''][1]}",
            said=each["Message"],
        )
        for each in json.loads(said)
    ]


def checkov(folder: Path) -> list[Finding]:
    """Failed checks; a template that checkov cannot read is one."""
    asked = ("--directory", ".", "--framework", "cloudformation", "--output", "json", "--compact", "--skip-download")
    found = json.loads(_run(CHECKOV, "checkov", *asked, folder=folder)).get("results", {})
    unread = [
        Finding(rule="unread", place=str(name), said="cannot be read") for name in found.get("parsing_errors", [])
    ]
    return unread + [
        Finding(
            rule=each["check_id"],
            place=f"{each['file_path'].strip('/').removesuffix('.json')}/{each['resource'].rpartition('.')[2]}",
            said=each["check_name"],
        )
        for each in found.get("failed_checks", [])
    ]


def _run(tool: Tool, command: str, *arguments: str, folder: Path) -> str:
    """Output of a command, which ends with an error if it finds something."""
    words = [str(tool.folder() / "bin" / command), *arguments]
    done = subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if not done.stdout.strip():
        raise RuntimeError(f"{command} said nothing: {done.stderr[-2_000:]}")
    return done.stdout


def problems(
    found: Sequence[Finding], reasons: Sequence[Reason] = REASONS, seeds: Sequence[Seed] = SEEDS
) -> Iterator[str]:
    """Findings without a reason, reasons without a finding, and seeds without either."""
    own = [each for each in found if not each.place.startswith(f"{SEEDED}/")]
    for each in own:
        if not any(reason.covers(each) for reason in reasons):
            yield f"OPEN {each.rule} at {each.place}: {each.said}"
    for reason in reasons:
        if not any(reason.covers(each) for each in own):
            yield f"STALE reason for {reason.rule} at {reason.places}: it covers nothing"
    left = [each for each in found if each not in own and not any(reason.covers(each) for reason in reasons)]
    for seed in seeds:
        if not any(each.rule == seed.rule and seed.is_at(*each.place.split("/")[1:]) for each in left):
            yield f"NOT FOUND {seed.rule} at {seed.part}/{seed.name}"


def run() -> int:
    """Print what the tools find; returns 0 only if there are no problems."""
    with TemporaryDirectory(prefix="metering-linters-") as temporary:
        folder, began = Path(temporary), time.monotonic()
        made = templates_by_stage()
        for stage, parts in made.items():
            (folder / stage).mkdir()
            for part, template in parts.items():
                (folder / stage / f"{part}.json").write_text(json.dumps(template, indent=1))
        tools = (
            partial(checkov, folder),
            partial(cfn_lint, folder, [stage for stage in made if stage not in (ALL, SEEDED)], "us-east-1"),
            # With all settings, a stage has all types of resources.
            partial(cfn_lint, folder, [ALL, SEEDED], "ALL_REGIONS"),
        )
        with ThreadPoolExecutor(len(tools)) as pool:
            found = [each for findings in pool.map(lambda tool: tool(), tools) for each in findings]
    wrong = list(problems(found))
    for line in wrong:
        print(line)
    counts = f"{len(found)} findings, {len(REASONS)} reasons, {len(SEEDS)} seeds"
    print(f"{counts}: {len(wrong)} wrong; {time.monotonic() - began:.0f} s")
    return int(bool(wrong))


def main(environ: Mapping[str, str] = os.environ, *, why: Callable[[Tool], str] = why_not) -> int:
    """Run both tools, or print why they cannot run."""
    if reason := why(CFN_LINT) or why(CHECKOV):
        print(f"skipped: {reason}")
        return int(bool(environ.get("CI")))
    return run()


if __name__ == "__main__":
    sys.exit(main())
