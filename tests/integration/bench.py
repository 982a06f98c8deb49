"""What the matrices of kills and lost replies share."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from metering.adapters.aws.session import Clients
from metering.stores.queues import Delivery
from tests.integration.region import Region, Scenario
from tests.support.wire import Trouble, Wire

# Faults of a call, and whether a late call is applied only after everything was done again.
VARIANTS = [(trouble, False) for trouble in Trouble] + [(Trouble.APPLIED_LATE, True)]
# For restartable jobs, dying before a call equals dying after the previous one, which is tried, too.
JOB_VARIANTS = [variant for variant in VARIANTS if variant[0] is not Trouble.KILLED_BEFORE]

_READS = ("BatchGet", "Get", "Head", "List", "Query", "Scan")

# The gate tries every fifth of the differing calls; `make matrix` tries all.
_EVERY = 1 if os.environ.get("METERING_EVERY_CALL") else 5

# Nothing is applied and the call is unavailable, as with a lost request; only the adapter's error differs.
_ANSWERS = (Trouble.THROTTLED, Trouble.CONFLICTED)


def worth_trying(calls: Sequence[str], trouble: Trouble, *, every: int = _EVERY) -> list[int]:
    """The calls at which a trouble makes a history of its own.

    A read changes nothing: a lost request is a lost reply, and to die around it is to die after the write before it. So
    reads get lost replies only, and the first of each operation is enough; so it is for answers of the service.

    In the gate it is every fifth of them: the others with the next trouble, so that each call has its turn.
    """
    differing = [
        number for number, call in enumerate(calls) if _differs(call, trouble, first=call not in calls[:number])
    ]
    return differing[list(Trouble).index(trouble) % every :: every]


def _differs(call: str, trouble: Trouble, *, first: bool) -> bool:
    service, _, operation = call.partition(".")
    if trouble in _ANSWERS:
        return first and (trouble is Trouble.THROTTLED or service == "dynamodb")
    if operation.startswith(_READS):
        return first and trouble in (Trouble.REPLY_LOST_ONCE, Trouble.REPLIES_LOST)
    return True


class Bench(NamedTuple):
    """Clients whose wire can be troubled."""

    clients: Clients
    wire: Wire


def lake_problems(region: Region, made: Scenario) -> str:
    """No job changes what a reader sees, at any point. Usage of what waits still lags."""
    seen = region.lake()
    return "" if seen == made.totals else f"a reader sees {set(seen.items()) ^ set(made.totals.items())}"


def problems(region: Region, made: Scenario, left: Sequence[Delivery] = ()) -> str:
    """What is wrong in a region, in words; nothing if all is as it was sent."""
    wrong = [f"no verdict for {one.message_id}" for one in left]
    for name, totals in (("usage", region.usage()), ("lake", region.lake())):
        for line in totals.keys() | made.totals.keys():
            if totals.get(line) != made.totals.get(line):
                wrong.append(f"{name} {line}: {totals.get(line)}, sent {made.totals.get(line)}")
    if region.verdicts() != made.verdicts:
        wrong.append(f"verdicts: {region.verdicts() ^ made.verdicts}")
    return "; ".join(wrong)
