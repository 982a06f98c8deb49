"""The gate of linters can fail, and each of its seeds changes one resource."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.infra.snapshots import ORGANISED, path_of
from tests.linters.__main__ import main, problems, seeded
from tests.linters.reasons import REASONS, SEEDS, Finding, Reason, Seed

KNOWN = Finding(rule="R1", place="prod/data/Bucket0A1B2C3D", said="no log")
SEEN = Finding(rule="R2", place="seeded/data/Queue0A1B2C3D", said="no key")
REASON = Reason("R1", "[^/]+/data/Bucket", "Logs would cost more.")
SEED = Seed("R2", "data", "Queue", lambda resource: resource["Properties"].pop("Key"))
OPEN = replace(KNOWN, place="prod/data/Other0A1B2C3D")


@pytest.mark.parametrize(("found", "reasons", "told"), [
    ([KNOWN, SEEN], [REASON], []),
    ([KNOWN, SEEN, OPEN], [REASON], ["OPEN R1 at prod/data/Other0A1B2C3D: no log"]),
    ([KNOWN, SEEN], [], ["OPEN R1 at prod/data/Bucket0A1B2C3D: no log"]),
    ([SEEN], [REASON], ["STALE reason for R1 at [^/]+/data/Bucket: it covers nothing"]),
    ([KNOWN], [REASON], ["NOT FOUND R2 at data/Queue"]),
    ([KNOWN, replace(SEEN, place="prod/data/Queue0A1B2C3D")], [REASON, Reason("R2", "prod/", "It is.")],
     ["NOT FOUND R2 at data/Queue"]),
    ([KNOWN, SEEN, replace(SEEN, place="prod/data/Queue0A1B2C3D")], [REASON, Reason("R2", "", "It is.")],
     ["NOT FOUND R2 at data/Queue"]),
    ([KNOWN, replace(SEEN, place="seeded/data/QueuePolicy0A1B2C3D")], [REASON], ["NOT FOUND R2 at data/Queue"]),
])  # fmt: skip
def test_a_finding_without_a_reason_a_reason_without_a_finding_and_a_seed_that_is_missed_are_told(
    found: list[Finding], reasons: list[Reason], told: list[str]
) -> None:
    assert list(problems(found, reasons, [SEED])) == told


def test_each_seed_changes_one_resource_and_each_tool_has_several() -> None:
    parts = {part: each["template"] for part, each in json.loads(path_of(ORGANISED).read_text()).items()}
    for seed in SEEDS:
        [(part, after)] = seeded(parts, [seed]).items()
        before = parts[part]["Resources"]
        changed = [name for name, each in after["Resources"].items() if each != before[name]]
        assert [seed.is_at(part, name) for name in changed] == [True]
    of_checkov = [seed for seed in SEEDS if seed.rule.startswith("CKV")]
    assert min(len(of_checkov), len(SEEDS) - len(of_checkov)) >= 6


def test_each_reason_is_a_sentence() -> None:
    assert [each.why for each in REASONS if not (each.why[0].isupper() and each.why.endswith("."))] == []


def test_without_the_tools_it_is_skipped_with_the_reason_and_red_on_ci(capsys: pytest.CaptureFixture[str]) -> None:
    codes = [main(environ, why=lambda _: "this machine has no Python 3.99") for environ in ({}, {"CI": "true"})]
    assert codes == [0, 1]
    assert capsys.readouterr().out == "skipped: this machine has no Python 3.99\n" * 2
