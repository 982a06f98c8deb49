"""Answers of `metering producers`: who is registered, what each owns, and the snippet that a producer pastes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.ledger.notes.deeds import Deed, DeedState
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column, Json
from metering.stores.objects import DROP_PREFIX, INGEST_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.ledger.notes.access import RegisteredProducer, ShownProducer, StoredToken


ALL_ACCOUNTS = "all"
"""What stands for the accounts of a producer that may meter each of them."""

_NAME = Column(name="name", text="copied", priority=KEEP)
_ACCOUNTS = Column(name="accounts", text="prose", priority=KEEP, about="that it may meter")
_ROLE = (
    Column(name="role_id", text="copied", priority=ROOMY, about="as SQS calls its sender"),
    Column(name="role_arn", text="copied", priority=ROOMY, about="that its workloads take"),
    Column(name="trusted", text="copied", priority=ROOMY + 1, about="who may take it"),
)
_WHEN = (
    Column(name="registered", kind="time", priority=ROOMY + 1),
    Column(name="registered_by", text="copied", priority=ROOMY + 2),
)
_OWNS = (
    Column(name="batch_ids", text="copied", priority=KEEP, about="begin with this, or with a colon for its slash"),
    Column(name="source_ids", text="copied", priority=KEEP, about="are this, or begin with it and a slash or a colon"),
    Column(name="objects", text="copied", priority=KEEP, about="below this, for messages that point to them"),
    Column(name="drops", text="copied", priority=KEEP, about="below this, without a message"),
)
_STATE = (
    Column(name="state", text="prose", priority=KEEP),
    Column(name="refused", kind="time", priority=KEEP, about="when its role last sent what it may not, in a week"),
)


def producers_answer(producers: Sequence[RegisteredProducer], *, judged: bool) -> Answer:
    """Put producers into the form of `metering producers list`.

    Args:
        producers: In the order in which they are shown.
        judged: Whether the region takes batches of registered producers only.
    """
    mode = "registered" if judged else "open"
    return Answer(
        columns=(_NAME, _ACCOUNTS, *_ROLE, *_WHEN),
        rows=[_row(each) for each in producers],
        meta={"producers": mode},
        footer=(
            "Batches of registered producers alone are taken here."
            if judged
            else "The stage is open: batches are taken of whoever may send to its queue (setting producers).",
        ),
        empty="There is no registered producer. To register one: metering producers add",
    )


def producer_answer(shown: ShownProducer, *, snippet: Sequence[str]) -> Answer:
    """One producer with all that it owns, what is wrong with it, and the lines that its workload needs."""
    found = shown.registered
    row: dict[str, Cell] = {
        **_row(found),
        "batch_ids": f"{found.name}/",
        "source_ids": found.name,
        "objects": f"{INGEST_PREFIX}{found.name}/",
        "drops": f"{DROP_PREFIX}{found.name}/",
        "state": " ".join(shown.warnings) or "good",
        "refused": None if shown.told_s is None else rfc3339(shown.told_s),
    }
    document: dict[str, Json] = {
        **{name: value for name, value in row.items() if isinstance(value, str | None)},
        "accounts": None if found.accounts is None else list(found.accounts),
        "warnings": list(shown.warnings),
        "snippet": list(snippet),
    }
    return Answer(
        columns=(_NAME, _ACCOUNTS, *_OWNS, *_ROLE, *_WHEN, *_STATE),
        rows=[row],
        document=document,
        commands=tuple(snippet),
    )


def snippet_of(found: RegisteredProducer, *, queue_url: str, bucket: str, region: str) -> tuple[str, ...]:
    """Lines for a workload that may take the producer's role: its profile, and its first batch."""
    return (
        "# ~/.aws/config of the workload",
        f"[profile metering-{found.name}]",
        f"role_arn = {found.role_arn}",
        "credential_source = Ec2InstanceMetadata",
        f"region = {region}",
        f"# Python, with AWS_PROFILE=metering-{found.name}",
        "import metering",
        "producer = metering.Producer(",
        f'    "{found.name}",',
        f'    state="/var/lib/metering/{found.name}",',
        f'    queue_url="{queue_url}",',
        f'    bucket="{bucket}",',
        f'    region="{region}",',
        ")",
        'producer.send(records, key="file-or-job-1")',
    )


def _row(found: RegisteredProducer) -> dict[str, Cell]:
    return {
        "name": found.name,
        "accounts": ALL_ACCOUNTS if found.accounts is None else ", ".join(found.accounts),
        "role_id": found.role_id,
        "role_arn": found.role_arn,
        "trusted": found.trusted_arn,
        "registered": rfc3339(found.registered_s),
        "registered_by": found.registered_by,
    }


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
        rows=[_token_row(each, now_s) for each in tokens],
        empty="There is no token. To make one: metering token create",
    )


def token_answer(token: StoredToken, *, now_s: int) -> Answer:
    """One token, as `metering token revoke` leaves it."""
    row = _token_row(token, now_s)
    return Answer(columns=_COLUMNS, rows=[row], document={**row})


def made_answer(text: str, stored: StoredToken, *, now_s: int) -> Answer:
    """A new token with its text, which nothing shows a second time."""
    row = {"token": text, **_token_row(stored, now_s)}
    columns = tuple(each for each in _COLUMNS if each.name not in {"revoked_by", "revoked"})
    shown = {each.name: row[each.name] for each in (_SECRET, *columns)}
    return Answer(columns=(_SECRET, *columns), rows=[shown], document={**shown})


def _token_row(token: StoredToken, now_s: int) -> dict[str, str | bool | None]:
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


_DEED_COLUMNS = (
    Column(name="at", kind="time", priority=KEEP),
    Column(name="what", text="copied", priority=KEEP),
    Column(name="subject", text="copied", priority=KEEP),
    Column(name="state", text="copied", priority=KEEP),
    Column(name="result", text="prose", priority=ROOMY),
    Column(name="who", text="copied"),
    Column(name="consent", title="agreed by", text="copied", priority=ROOMY + 1),
    Column(name="stage", text="copied", priority=ROOMY + 3),
    Column(name="region", text="copied", priority=ROOMY + 3),
    Column(name="version", text="copied", priority=ROOMY + 3),
    Column(name="ended", kind="time", priority=ROOMY + 2),
    Column(name="consequence", text="prose", priority=ROOMY + 4),
    Column(name="deed_id", text="copied", priority=ROOMY + 4),
)


def deeds_answer(deeds: Sequence[Deed]) -> Answer:
    """Put deeds into the form of `metering audit`, in the order in which they are given."""
    return Answer(
        columns=_DEED_COLUMNS,
        rows=[_deed_row(deed) for deed in deeds],
        empty="Nothing was changed or deleted by command in this range.",
    )


def _deed_row(deed: Deed) -> dict[str, Cell]:
    begun = deed.state is DeedState.BEGUN
    return {
        "at": rfc3339(deed.at_ms // 1000),
        "what": deed.what,
        "subject": deed.subject,
        "state": deed.state.value,
        # A deed that runs now looks the same; only its end tells them apart.
        "result": "begun, no end" if begun else deed.result,
        "who": deed.who,
        "consent": deed.consent.value,
        "stage": deed.stage,
        "region": deed.region,
        "version": deed.version,
        "ended": None if begun else rfc3339(deed.ended_ms // 1000),
        "consequence": deed.consequence,
        "deed_id": deed.deed_id,
    }
