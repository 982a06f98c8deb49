"""Answers of `metering producers`: registered producers, what belongs to each, and the configuration to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.ledger.notes.deeds import Deed, DeedState
from metering.reports.answer import KEEP, ROOMY, Answer, Fields, Json, RowType, copied, flag, prose, timed
from metering.stores.objects import DROP_PREFIX, INGEST_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.ledger.notes.access import RegisteredProducer, ShownProducer, StoredToken


ALL_ACCOUNTS = "all"
"""What stands for the accounts of a producer or a token that may see each of them."""


def accounts_text(accounts: Sequence[str] | None) -> str:
    """Accounts in a row."""
    return ALL_ACCOUNTS if accounts is None else ", ".join(accounts)


def _owned(name: str, pattern: str, about: str) -> Fields[RegisteredProducer]:
    return copied(name, of=lambda it: pattern.format(it.name), priority=KEEP, about=about)


_NAME: Fields[RegisteredProducer] = (
    *copied("name", priority=KEEP),
    *prose("accounts", of=lambda it: accounts_text(it.accounts), priority=KEEP, about="that it may meter"),
)
_ROLE: Fields[RegisteredProducer] = (
    *copied("role_id", priority=ROOMY, about="as SQS calls its sender"),
    *copied("role_arn", priority=ROOMY, about="that its workloads take"),
    *copied("trusted", of=lambda it: it.trusted_arn, priority=ROOMY + 1, about="who may take it"),
    *timed("registered", of=lambda it: it.registered_s, priority=ROOMY + 1),
    *copied("registered_by", priority=ROOMY + 2),
)
_OWNS: Fields[RegisteredProducer] = (
    *_owned("batch_ids", "{}/", "begin with this, or with a colon for its slash"),
    *_owned("source_ids", "{}", "are this, or begin with it and a slash or a colon"),
    *_owned("objects", f"{INGEST_PREFIX}{{}}/", "below this, for messages that point to them"),
    *_owned("drops", f"{DROP_PREFIX}{{}}/", "below this, without a message"),
)
_REGISTERED = RowType(_NAME, _ROLE)
_OWNER = RowType(_NAME, _OWNS, _ROLE)
_STATE: RowType[ShownProducer] = RowType(
    prose("state", of=lambda it: " ".join(it.warnings) or "good", priority=KEEP),
    timed(
        "refused", of=lambda it: it.told_s, priority=KEEP, about="when its role last sent what it may not, in a week"
    ),
)


def producers_answer(producers: Sequence[RegisteredProducer], *, judged: bool) -> Answer:
    """Convert producers to the answer of `metering producers list`; `judged` if the region refuses other senders."""
    mode = "registered" if judged else "open"
    return _REGISTERED.answer(
        producers,
        meta={"producers": mode},
        footer=(
            "Batches of registered producers alone are taken here."
            if judged
            else "The stage is open: batches are taken of whoever may send to its queue (setting producers).",
        ),
        empty="There is no registered producer. To register one: metering producers add",
    )


def producer_answer(shown: ShownProducer, *, snippet: Sequence[str]) -> Answer:
    """One producer with everything that belongs to it, its problems, and the configuration for its workload."""
    found = shown.registered
    row = {**_REGISTERED.row(found), **_OWNER.row(found), **_STATE.row(shown)}
    document: dict[str, Json] = {
        **{name: value for name, value in row.items() if isinstance(value, str | None)},
        "accounts": None if found.accounts is None else list(found.accounts),
        "warnings": list(shown.warnings),
        "snippet": list(snippet),
    }
    columns = (*_OWNER.columns, *_STATE.columns)
    return Answer(columns=columns, rows=[row], document=document, commands=tuple(snippet))


def snippet_of(found: RegisteredProducer, *, queue_url: str, bucket: str, region: str) -> tuple[str, ...]:
    """Configuration for a workload that may assume the producer's role: an AWS profile, and code for a first batch."""
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


_TOKEN: Fields[StoredToken] = (
    *copied("token_id", "role", priority=KEEP),
    *prose("accounts", of=lambda it: accounts_text(it.accounts), priority=KEEP, about="that it may see"),
)
_MADE: Fields[StoredToken] = (
    *timed("expires", of=lambda it: it.expires_s),
    *flag("costs", priority=ROOMY, about="also at tiers that it shares with accounts it does not see"),
    *prose("label", priority=ROOMY),
    *copied("made_by", priority=ROOMY + 1),
    *timed("made", of=lambda it: it.made_s, priority=ROOMY + 1),
)
_REVOKED: Fields[StoredToken] = (
    *copied("revoked_by", priority=ROOMY + 2),
    *timed("revoked", of=lambda it: it.revoked_s or None, priority=ROOMY + 2),
)


def _tokens(now_s: int, *, secret: str = "") -> RowType[StoredToken]:
    """A table of tokens; a new token's row includes its text, which is never shown again."""
    state: Fields[StoredToken] = copied("state", of=lambda it: _state(it, now_s), priority=KEEP)
    if not secret:
        return RowType(_TOKEN, state, _MADE, _REVOKED)
    return RowType(copied("token", of=lambda _: secret, priority=KEEP, about="shown this once"), _TOKEN, state, _MADE)


def tokens_answer(tokens: Sequence[StoredToken], *, now_s: int) -> Answer:
    """Convert tokens to the answer of `metering token list`, in the given order."""
    return _tokens(now_s).answer(tokens, empty="There is no token. To make one: metering token create")


def token_answer(token: StoredToken, *, now_s: int, secret: str = "") -> Answer:
    """One token: revoked by `metering token revoke`, or new and with its text."""
    return _tokens(now_s, secret=secret).one(token)


def _state(token: StoredToken, now_s: int) -> str:
    if token.revoked_s:
        return "revoked"
    return "good" if token.good_at(now_s) else "expired"


_DEEDS: RowType[Deed] = RowType(
    timed("at", of=lambda deed: deed.at_ms // 1000, priority=KEEP),
    copied("what", "subject", "state", priority=KEEP),
    # A deed that is still running looks like a deed whose process was killed.
    prose("result", of=lambda deed: "begun, no end" if deed.state is DeedState.BEGUN else deed.result, priority=ROOMY),
    copied("who"),
    copied("consent", title="agreed by", priority=ROOMY + 1),
    copied("stage", "region", "version", priority=ROOMY + 3),
    timed(
        "ended", of=lambda deed: None if deed.state is DeedState.BEGUN else deed.ended_ms // 1000, priority=ROOMY + 2
    ),
    prose("consequence", priority=ROOMY + 4),
    copied("deed_id", priority=ROOMY + 4),
)


def deeds_answer(deeds: Sequence[Deed]) -> Answer:
    """Convert deeds to the answer of `metering audit`, in the given order."""
    return _DEEDS.answer(deeds, empty="Nothing was changed or deleted by command in this range.")
