"""Log files of a small generated network, and its context, in folders."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import context_key
from tests.support.lake_world import HOUR
from tests.support.networks.description import description
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from pathlib import Path


def network_logs(folder: Path, *, lines: int = 600) -> None:
    """Put the files of one slot below `logs`, and the context of their hour below `ctx`."""
    made = Network(NetworkPlan(first_s=HOUR, lines=lines, slots=1))
    for file in made.files():
        path = folder / "logs" / file.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.body)
    context = context_of(description(made.inventory, made.flow_logs, HOUR), HOUR)
    path = folder / "ctx" / context_key(context.effective_s, context.sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(context.encode(), mtime=0))
