"""Lines of addresses that are alike are added up before they are judged, and nothing comes out differently."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import Measured, measure
from metering.onramps.kinds import LogKind, recognised
from metering.onramps.reading import Block, FileName, FlowHop, Folding
from metering.onramps.rules.flow_classifier import AddressClasses, FlowClassifier
from metering.onramps.rules.knowledge import knowledge_of
from metering.onramps.transit_gateway import WithTransit
from metering.units import HOUR_S
from tests.support.networks.description import description
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from metering.onramps.reasons import Classifier, Outcome
    from tests.support.networks.files import LogFile

_FIRST_S = 1_795_617_000


class _Unfolded:
    """A judge that says nothing of what is alike."""

    def __init__(self, judge: Classifier[FlowHop]) -> None:
        self._judge = judge

    def outcome(self, subject: FlowHop, hour_s: int) -> Outcome:
        return self._judge.outcome(subject, hour_s)


def _unfolded(name: FileName, timeline: Timeline) -> _Unfolded:
    return _Unfolded(WithTransit(name, timeline))


def _measured(kind: LogKind, name: FileName, file: LogFile, timeline: Timeline) -> tuple[Measured, int]:
    observations = 0

    def watch(block: Block[object]) -> None:
        nonlocal observations
        observations += len(block.observations)

    return measure(io.BytesIO(file.body), kind, name, timeline, watch=watch), observations


@pytest.mark.parametrize("known", [0, 1, 2], ids=["no context", "a context", "two contexts"])
@pytest.mark.parametrize("style", ["v2", "v4", "v5", "v11"])
def test_a_file_is_metered_the_same_with_and_without_folding(style: str, known: int) -> None:
    network = Network(NetworkPlan(first_s=_FIRST_S, lines=6_000, slots=3, variety=20, style=style))
    files = list(network.files())
    contexts = [
        (hour_s, context_of(description(network.inventory, network.flow_logs, hour_s), hour_s))
        for hour_s in (_FIRST_S - _FIRST_S % HOUR_S, _FIRST_S - _FIRST_S % HOUR_S + HOUR_S)
    ]
    timeline = Timeline(tuple(contexts[:known]))
    folded_count = plain_count = 0
    for file in files:
        found = recognised(file.key)
        assert found is not None
        kind, name = found
        plain_kind = replace(kind, classifier=_unfolded)
        folded, observations = _measured(kind, name, file, timeline)
        plain, all_observations = _measured(plain_kind, name, file, timeline)
        # Details of refusals may name an address, and lines that are alike have one.
        assert replace(folded, refused=()) == replace(plain, refused=())
        folded_count += observations
        plain_count += all_observations
    assert folded_count < plain_count


def test_the_judge_of_flow_logs_folds() -> None:
    found = recognised("012345678901_vpcflowlogs_us-west-2_fl-0a_20261124T1305Z_a.log.gz")
    assert found is not None
    assert isinstance(found[0].classifier(found[1], Timeline()), Folding)
    assert isinstance(FlowClassifier(found[1], Timeline()), Folding)
    assert not isinstance(_Unfolded(found[0].classifier(found[1], Timeline())), Folding)


def test_addresses_of_the_internet_are_alike_and_private_ones_are_others() -> None:
    classes = AddressClasses([knowledge_of(None)], directed=True)
    addresses = ["192.0.2.1", "203.0.113.9", "10.0.0.1", "10.9.9.9", "2001:db8::1", "no address"]
    found = classes.alike(addresses)
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert len(set(found)) == 4
    assert found[-1] == "no address"
    assert classes.alike(addresses[1:2]) == found[:1]
