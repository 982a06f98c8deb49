"""Answers of `metering token`: tokens with what their holders may see, never with their secrets but once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.answer import KEEP, ROOMY, Answer, Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.ledger.notes.tokens import StoredToken

EVERYTHING = "all"
"""What stands for the accounts of a token that sees all of them."""

_COLUMNS = (
    Column(name="token_id", text="copied", priority=KEEP),
    Column(name="role", text="copied", priority=KEEP),
    Column(name="accounts", text="prose", priority=KEEP, about="that it may see"),
    Column(name="state", text="copied", priority=KEEP),
    Column(name="expires", kind="time"),
    Column(
        name="costs", kind="flag", priority=ROOMY, about="also at tiers that it shares with accounts it does not see"
    ),
    Column(name="label", text="prose", priority=ROOMY),
    Column(name="made_by", text="copied", priority=ROOMY + 1),
    Column(name="made", kind="time", priority=ROOMY + 1),
    Column(name="revoked_by", text="copied", priority=ROOMY + 2),
    Column(name="revoked", kind="time", priority=ROOMY + 2),
)
_SECRET = Column(name="token", text="copied", priority=KEEP, about="shown this once")


def tokens_answer(tokens: Sequence[StoredToken], *, now_s: int) -> Answer:
    """Put tokens into the form of `metering token list`, in the order in which they are given."""
    return Answer(
        columns=_COLUMNS,
        rows=[_row(each, now_s) for each in tokens],
        empty="There is no token. To make one: metering token create",
    )


def token_answer(token: StoredToken, *, now_s: int) -> Answer:
    """One token, as `metering token revoke` leaves it."""
    row = _row(token, now_s)
    return Answer(columns=_COLUMNS, rows=[row], document={**row})


def made_answer(text: str, stored: StoredToken, *, now_s: int) -> Answer:
    """A new token with its text, which nothing shows a second time."""
    row = {"token": text, **_row(stored, now_s)}
    columns = tuple(each for each in _COLUMNS if each.name not in {"revoked_by", "revoked"})
    shown = {each.name: row[each.name] for each in (_SECRET, *columns)}
    return Answer(columns=(_SECRET, *columns), rows=[shown], document={**shown})


def _row(token: StoredToken, now_s: int) -> dict[str, str | bool | None]:
    return {
        "token_id": token.token_id,
        "role": token.role.value,
        "accounts": EVERYTHING if token.accounts is None else ", ".join(token.accounts),
        "state": _state(token, now_s),
        "expires": rfc3339(token.expires_s),
        "costs": token.costs,
        "label": token.label,
        "made_by": token.made_by,
        "made": rfc3339(token.made_s),
        "revoked_by": token.revoked_by,
        "revoked": rfc3339(token.revoked_s) if token.revoked_s else None,
    }


def _state(token: StoredToken, now_s: int) -> str:
    if token.revoked_s:
        return "revoked"
    return "good" if token.good_at(now_s) else "expired"
