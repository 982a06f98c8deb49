"""The kind of log that a mapping makes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from metering.onramps.kinds import LogKind
from metering.onramps.mapped.document import parse_mapping
from metering.onramps.mapped.reader import read_mapped_log
from metering.onramps.names import FileName
from metering.onramps.reasons import LineReason
from metering.onramps.traffic import Classified, Refused

if TYPE_CHECKING:
    from metering.onramps.context.timeline import Timeline
    from metering.onramps.traffic import Outcome, Traffic

KIND = "mapped"
RULE = "mapping"
_UNKNOWN = "unknown"


def mapped_kind(text: str) -> LogKind:
    """The kind of log of a mapping.

    Args:
        text: The mapping, TOML.

    Raises:
        SettingsError: It is no mapping; carries every problem.
    """
    mapping = parse_mapping(text)
    return LogKind(
        name=KIND,
        about="a log whose columns a mapping names",
        recognise=lambda _key: FileName(kind=KIND, identity="", source=mapping.source),
        read=partial(read_mapped_log, mapping),
        classifier=_Classifier,
        rules=f"{KIND}/{mapping.version}",
        needs_context=False,
    )


class _Classifier:
    """`Classifier`: the mapping has said all; what is left is whether it said whose traffic it is."""

    def __init__(self, _name: FileName, _timeline: Timeline) -> None:
        pass

    def outcome(self, subject: Traffic, hour_s: int) -> Outcome:
        del hour_s
        if not subject.account_id:
            detail = (
                "the row has no account: name its column in the mapping (account), or give the account: --accounts ID"
            )
            return Refused(LineReason.INVALID_ACCOUNT, detail)
        stated_unknown = _UNKNOWN in (subject.from_location, subject.to_location)
        return Classified(subject, RULE, "peer_not_stated" if stated_unknown else "")
