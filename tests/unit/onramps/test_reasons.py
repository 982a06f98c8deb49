"""Every reason that the rules give for unclassified bytes has words of its own, with what would help."""

from __future__ import annotations

import re
from pathlib import Path

import metering.onramps as onramps
from metering.onramps.ingest.outcomes import ADVICE, advice_of
from metering.onramps.rules.hop_judge import hop_rules

OWN = {
    *("edge_unknown", "edge_not_logged", "global_service", "ranges_unknown", "peer_not_stated", "direction_unknown"),
    *("method_not_logged", "origin_unknown", "attachment_unknown", "peer_region_unknown", "payer_unknown"),
}


def test_the_reasons_of_all_kinds_have_words() -> None:
    hops = {reason for reason in re.findall(r'"reason": "(\w+)"', _rules()) if reason}
    assert hop_rules().version
    assert not (hops | OWN) - set(ADVICE)


def test_a_reason_without_words_gets_general_ones() -> None:
    assert advice_of("new_reason").why == "the log does not say more"


def _rules() -> str:
    return (Path(onramps.__path__[0]) / "rules" / "hop_rules.json").read_text(encoding="utf-8")
