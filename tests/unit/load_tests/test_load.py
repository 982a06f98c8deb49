"""The load test paces itself by the number of batches that were sent."""

from __future__ import annotations

import json

from load_tests.deployed.sampler import CountedManifest
from metering.audit.verification import ManifestHeader, header_line
from metering.cli.commands.developer.replay import SentLog
from metering.replay.scenarios import SCENARIOS
from metering.replay.synthesis import Synthesis
from tests.support.small_world import NOW_S


def test_every_batch_of_a_group_is_counted_and_the_header_is_not() -> None:
    synthesis = Synthesis(name="s", scenario=SCENARIOS["load-1"], seed=1, base_hour_s=NOW_S, bucket="b")
    sent = [shipment.sent for shipment in synthesis.shipments(25)]
    manifest = CountedManifest()
    log = SentLog(manifest)
    log.begin(header_line(ManifestHeader(name="s", region="us-east-1", seed=1, began_at_ms=0)))
    log.add(sent[:10])
    log.add(sent[10:])
    assert manifest.sent == 25
    assert len([json.loads(line) for line in manifest.getvalue().splitlines()]) == 26
