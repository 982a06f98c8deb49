"""Traffic that a replay is about to send: records of files, or a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_of
from metering.replay.synthesis import Synthesis, replay_name
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.intake.admission import Admission
    from metering.replay.given import GivenRecords
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
        complaints: What is wrong with records of files, each with its place. They are sent as they stand.
    """

    name: str
    seed: int
    messages: int
    shipments: Iterable[Shipment]
    complaints: Sequence[str] = ()


def given_traffic(
    read: GivenRecords, records_per_batch: int, now_s: int, *, admission: Admission, shifted: bool = True
) -> Traffic:
    """Records of files, to be sent at `now_s` to a stage of this admission window; `shifted` moves them there.

    Raises:
        InputError: They span more time than the window, or one of them cannot be counted here.
    """
    given = (read.shifted_to(now_s, window_s=admission.window_s) if shifted else read).judged(now_s, admission)
    number = -(-len(given.given) // records_per_batch)
    return Traffic(
        name=given.name,
        seed=0,
        messages=number,
        shipments=given.shipments(records_per_batch),
        complaints=given.complaints,
    )


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
