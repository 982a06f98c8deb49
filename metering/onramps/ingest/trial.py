"""A dry run: what files would be metered as. It writes nothing, and asks no service but the store of the files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import LogFileRefusedError
from metering.onramps.bills import NAMED
from metering.onramps.ingest.files import (
    LogFile,
    completed_name,
    kind_and_name,
    path_of,
    place_of,
    store_refusals,
)
from metering.onramps.ingest.outcomes import FileOutcome, outcome_of_measured
from metering.onramps.ingest.planning import check_owner
from metering.onramps.names import identity_by_content

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.onramps.bills import Bills
    from metering.onramps.context.timeline import Timeline
    from metering.onramps.ingest.choosing import Chosen
    from metering.onramps.ingest.overlap import Overlap
    from metering.onramps.kinds import LogKind
    from metering.onramps.observations import Block
    from metering.onramps.reading import ReadSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Measures files.

    Attributes:
        kinds: Kinds of logs.
        timeline: Contexts that judge; may be empty.
        settings: Limits and hints of reading.
        kind: Kind that a person says all files are; None if their names decide.
        bills: Whom their lines may bill.
        overlap: Looks for traffic that two flow logs see, if no context judges; None if one does.
    """

    kinds: Sequence[LogKind]
    timeline: Timeline
    settings: ReadSettings
    kind: LogKind | str | None = None
    bills: Bills = NAMED
    overlap: Overlap | None = None

    def outcome(self, chosen: Chosen, watch: Callable[[Block[object]], None]) -> FileOutcome:
        """Measure one file.

        Raises:
            UnavailableError: The store of the file gave no answer.
        """
        info = chosen.info
        place = place_of(chosen.store, info.key)
        try:
            said, name = kind_and_name(self.kinds, path_of(chosen.store, info.key), self.kind)

            def watched(block: Block[object]) -> None:
                if self.overlap is not None:
                    self.overlap.look(name, block)
                watch(block)

            file = LogFile(
                store=chosen.store,
                key=info.key,
                etag=info.etag,
                kind=said,
                name=completed_name(path_of(chosen.store, info.key), name, self.bills),
                settings=self.settings,
                bills=self.bills,
                watch=watched,
            )
            with store_refusals():
                measured = file.measured(self.timeline)
            check_owner(file, measured)
        except LogFileRefusedError as error:
            return FileOutcome(
                place=place,
                verdict="refused",
                stored_bytes=info.size_bytes,
                problem=(error.reason, error.detail),
            )
        identity = name.identity or identity_by_content(measured.content_sha256)
        return outcome_of_measured(
            measured, place=place, stored_bytes=info.size_bytes, kind=said.name, identity=identity
        )
