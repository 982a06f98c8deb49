"""Traffic that a replay is about to send: records of files, or a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_of
from metering.replay.given import read_records
from metering.replay.synthesis import Synthesis, replay_name
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from metering.replay.scenarios import Scenario
    from metering.replay.synthesis import Shipment


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Messages to be sent.

    Attributes:
        name: Start of the batch ids.
        seed: Seed of a scenario; 0 for records of files.
        messages: Number of messages.
        shipments: The messages, made while they are taken.
    """

    name: str
    seed: int
    messages: int
    shipments: Iterable[Shipment]


def given_traffic(files: Sequence[Path], records_per_batch: int, now_s: int | None) -> Traffic:
    """The records of files, moved to `now_s` if that is given.

    Raises:
        InputError: A file holds something else.
    """
    given = read_records(files)
    if now_s is not None:
        given = given.shifted_to(now_s)
    number = -(-len(given.records) // records_per_batch)
    return Traffic(name=given.name, seed=0, messages=number, shipments=given.shipments(records_per_batch))


def synthetic_traffic(
    name: str, scenario: Scenario, batches: int | None, seed: int, now_s: int, bucket: str
) -> Traffic:
    """Traffic of a scenario whose newest records start in the last whole hour before `now_s`."""
    # The last whole hour: no record may start in the future.
    base_hour_s = hour_of(now_s) - HOUR_S
    run = replay_name(name, seed, base_hour_s)
    synthesis = Synthesis(name=run, scenario=scenario, seed=seed, base_hour_s=base_hour_s, bucket=bucket)
    number = batches or scenario.batches
    return Traffic(name=run, seed=seed, messages=number, shipments=synthesis.shipments(number))
