"""`metering producers`, `sources` and `token`: registered senders, gaps in sequence numbers, and API tokens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters.aws.runtime import SystemClock
from metering.audit.source_keeping import GAP_GRACE_S
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.fleet import everywhere, of_region
from metering.cli.options import argument, family, option, parse_duration, switch
from metering.ledger.notes import access
from metering.ledger.notes.reconciliation import SILENCE_S, Ruling, RulingKind, SourceFigures, SourceState
from metering.reports.answer import Answer, ListedRows, copied, integer, prose, timed
from metering.reports.operators.producers_answer import (
    ALL_ACCOUNTS,
    producer_answer,
    producers_answer,
    snippet_of,
    token_answer,
    tokens_answer,
)
from metering.reports.operators.sources_answer import intervals
from metering.stores.writes import Put, Table
from metering.units import DAY_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.operations.access import ProducerBook, TokenBook
    from metering.wiring.connection import RegionConnection


producers = family("Producers: who may send batches, for which accounts, and under which names.")

_ADD = """Examples:

    metering producers add edge-7f3a --accounts 111122223333,444455556666 \\
        --role-arn arn:aws:iam::111122223333:role/edge

    metering producers add collector --accounts all

What it owns:

- batch ids that begin with its name and a slash or a colon, such as edge-7f3a/000184;
- its name as source id, and those that begin with it and a slash or a colon;
- objects below ingest/NAME/ and drop/NAME/, and its accounts.
"""
NameArgument = Annotated[str, argument("PRODUCER", "Its name.")]


@command(producers, "add", reads=True, changes=True, epilog=_ADD)
def add(
    session: Session,
    name: NameArgument,
    accounts: Annotated[
        str, option("--accounts", "IDS", "Accounts that the producer may meter, comma-separated; or all.")
    ],
    role_arn: Annotated[
        str | None,
        option(
            "--role-arn",
            "ARN",
            "Role, user or account (its root) whose workloads may assume the producer's role. Default: the account "
            "of the stage.",
        ),
    ] = None,
) -> None:
    """Register a producer in this region: create its role and its entry, and show the setup of its workload.

    The role may send to the queue, and put objects below two prefixes of the producer. Adding a producer again can
    change its accounts and who may assume its role, and registers the new id of a recreated role. If the stage's
    setting `producers` is `registered`, the service refuses batches of all other senders; if it is `open`, senders are
    not checked.
    """
    from metering.operations.access import producer_problems

    named = None if accounts == ALL_ACCOUNTS else sorted({each.strip() for each in accounts.split(",")})
    problems = producer_problems(name=name, accounts=named, trusted_arn=role_arn or "")
    if problems:
        raise WrongUsageError(" ".join(problems), "Nobody was registered.")
    region = session.region()
    book = _book(region)
    before = book.get(name)
    with session.deed(
        what="producers add",
        subject=name,
        consequence=f"It {'is registered anew' if before else 'is new'}: whoever may take its role meters "
        f"{_some(named)} under its name.",
    ) as done:
        made = book.add(name, accounts=named, trusted_arn=role_arn or "", registered_by=region.caller())
        done.result = f"role {made.role_id}, {_some(named)}"
    session.write(_shown(region, book.show(name)))
    say("IAM may take some seconds to know its role everywhere.")


@command(producers, "list", "metering producers list --format table", reads=True, everywhere=True)
def list_(session: Session) -> None:
    """List registered producers with their accounts and roles, and whether this stage checks senders."""
    session.write(everywhere(session, _everyone))


@command(producers, "show", "metering producers show edge-7f3a", reads=True)
def show(session: Session, name: NameArgument) -> None:
    """Show a producer: its names, the setup of its workload, and problems for which its batches would be refused.

    The command warns if the role was recreated, because SQS then reports another id; if the role trusts a deleted
    principal; and if this endpoint gives all senders one id, as emulators do.
    """
    region = session.region()
    shown = _book(region).show(name)
    session.write(_shown(region, shown))
    for warning in shown.warnings:
        say(warning, "yellow")


@command(producers, "remove", "metering producers remove edge-7f3a", reads=True, changes=True)
def remove(session: Session, name: NameArgument) -> None:
    """Remove a producer from the registry, and delete its role. Batches that the producer sent before stay metered.

    First drain the queue, and retry the producer's quarantine: if senders are checked, batches that remain are refused
    within a minute. The role is deleted when the producer is removed from the last region in which it is registered.
    """
    region = session.region()
    book = _book(region)
    found = book.find(name)
    with session.deed(
        what="producers remove",
        subject=name,
        consequence=f"Nobody meters {_some(found.accounts)} under its name any more in this region.",
    ) as done:
        gone = book.remove(name)
        done.result = "removed, with its role" if gone else "removed; its role is left for other regions"
    say(f"{name}: {done.result}. Who remains:")
    session.write(_everyone(region))


def _everyone(region: RegionConnection) -> Answer:
    return producers_answer(_book(region).everyone(), judged=region.services is not None)


def _some(accounts: Sequence[str] | None) -> str:
    if accounts is None:
        return "all accounts"
    return f"{len(accounts)} accounts" if len(accounts) > 1 else f"account {accounts[0]}"


def _shown(region: RegionConnection, shown: access.ShownProducer) -> Answer:
    queue_url, bucket = region.names.ingest_queue_url, region.names.data_bucket
    snippet = snippet_of(shown.registered, queue_url=queue_url, bucket=bucket, region=region.region)
    return producer_answer(shown, snippet=snippet)


def _book(region: RegionConnection) -> ProducerBook:
    from metering.operations.access import ProducerBook

    return ProducerBook(items=region.items, roles=region.producer_roles, clock=region.clock)


token = family("Tokens of the HTTP API: who may request what, and until when.")

_CREATE = """Examples:

    metering token create --role customer --account 123456789012 --days 30 --label "portal of Acme"

    metering token create --role analyst

Roles:

- customer: usage of its own accounts, and their costs as `--costs` says.
- analyst: usage of all accounts, or of those that are named.
- operator: also sources, quarantine and reconciliation.
"""
_MOST_DAYS = 366


@command(token, "create", reads=True, changes=True, epilog=_CREATE)
def create(
    session: Session,
    role: Annotated[access.Role, option("--role", "|".join(access.Role), "Requests that the token allows.")],
    account: Annotated[
        list[str] | None,
        option("--account", "ID", "Only this account; may be repeated. A customer's token needs an account."),
    ] = None,
    days: Annotated[int, option("--days", "DAYS", "When it expires.", min=1, max=_MOST_DAYS, show_default=True)] = 30,
    label: Annotated[str | None, option("--label", "TEXT", "Label of the token in the list.")] = None,
    costs: Annotated[
        bool,
        switch(
            "--costs",
            "Also allow costs of accounts whose payer has other accounts. At a shared tier, a price reveals what "
            "other accounts use.",
        ),
    ] = False,
) -> None:
    """Make a token for the HTTP API of this region, and show it once.

    The ledger stores only a hash of the secret, so the secret cannot be shown again: create another token if it is
    lost. Clients send the token as a header: Authorization: Bearer mtr_...
    """
    from metering.operations.access import token_problems

    accounts = sorted(set(account)) if account else None
    problems = token_problems(role=role, accounts=accounts, life_s=days * DAY_S, label=label or "")
    if problems:
        raise WrongUsageError(" ".join(problems), "No token was made. See: metering token create --help")
    region = session.region()
    seen = "all accounts" if accounts is None else f"{len(accounts)} accounts" if accounts[1:] else accounts[0]
    told = " Costs at shared tiers tell it what the payer's other accounts use." if accounts and costs else ""
    with session.deed(
        what="token create",
        subject=role.value,
        consequence=f"Whoever has it may ask the HTTP API for the usage of {seen} for {days} days.{told}",
    ) as done:
        book, by = _token_book(region), region.caller()
        made = book.create(
            role=role, accounts=accounts, life_s=days * DAY_S, made_by=by, label=label or "", costs=costs
        )
        done.result = f"token {made.stored.token_id}"
    session.write(token_answer(made.stored, now_s=_now_s(region), secret=made.text))
    say("It is shown this once. To end it before it expires: metering token revoke " + made.stored.token_id)


@command(token, "list", "metering token list --format table", reads=True, everywhere=True)
def list_tokens(session: Session) -> None:
    """List tokens, the newest first, with what their holders may see. Secrets are not shown, because none is stored.

    Expired tokens remain in the list for some days.
    """
    session.write(everywhere(session, lambda region: tokens_answer(_token_book(region).list(), now_s=_now_s(region))))


@command(token, "revoke", "metering token revoke 5d41402abc4b2a76", reads=True, changes=True)
def revoke(
    session: Session, token_id: Annotated[str, argument("TOKEN", "Id of the token: the part after mtr_.")]
) -> None:
    """Revoke a token. The HTTP API stops accepting the token within a minute.

    If the token is already revoked, nothing changes. You may also give the whole token, from which the command takes
    the id.
    """
    region = session.region()
    book = _token_book(region)
    found = book.find(token_id)
    seen = "all accounts" if found.accounts is None else f"{len(found.accounts)} accounts"
    with session.deed(
        what="token revoke",
        subject=found.token_id,
        consequence=f"The HTTP API refuses this {found.role.value}'s token for {seen} within a minute, for good.",
    ) as done:
        revoked = book.revoke(found.token_id, revoked_by=region.caller())
        done.result = "it was revoked already" if found.revoked_s else "revoked"
    session.write(token_answer(revoked, now_s=_now_s(region)))


def _token_book(region: RegionConnection) -> TokenBook:
    from metering.operations.access import TokenBook

    return TokenBook(items=region.items, clock=region.clock)


def _now_s(region: RegionConnection) -> int:
    return region.clock.now_ms() // 1000


sources_app = typer.Typer()

_RULING = ListedRows(
    copied("source_id", "ruling"),
    copied("numbers", about="that it is about"),
    integer("missing", about="of them, that never came"),
    prose("gaps", about="those numbers"),
    copied("by"),
    timed("at"),
)
_NUMBERS = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


@command(sources_app, "sources", "metering sources --gaps --format table", reads=True, everywhere=True, group=True)
def sources(
    session: Session,
    gaps: Annotated[
        bool, switch("--gaps", "Only producers with gaps, or with a large jump between two numbers.")
    ] = False,
    silent: Annotated[bool, switch("--silent", "Only producers that went silent.")] = False,
    silence: Annotated[
        str | None, option("--silence", "DURATION", "Time without a batch that counts as silence. Default: 1d.")
    ] = None,
) -> None:
    """Show the producers that number their batches: last number, last batch, and numbers that never arrived.

    The figures date from the reconciler's last full scan of the markers. To scan now: metering reconcile

    A number counts as missing if two scans, at least 15 minutes apart, did not find it.
    """
    from metering.wiring.answers.operators import sources_of

    silence_s = parse_duration(silence, "--silence") if silence else SILENCE_S
    told: list[tuple[str, str]] = []

    def known(region: RegionConnection) -> Answer:
        answer, figures = sources_of(region, gaps=gaps, silent=silent, silence_s=silence_s)
        told.extend((f"{of_region(session, region.region)}{text}", style) for text, style in _notes(figures))
        return answer

    session.write(everywhere(session, known))
    for text, style in told:
        say(text, style)


def _notes(figures: SourceFigures) -> Iterator[tuple[str, str]]:
    """Notes on the figures, each with the style in which it is printed."""
    if not figures.scanned_ms // 1000:
        yield "The reconciler has not done a full scan yet. To do it now: metering reconcile", ""
    else:
        yield f"Gaps that are younger than {GAP_GRACE_S // MINUTE_S} minutes are not shown yet.", ""
    if figures.unkept:
        names = ", ".join(figures.names)
        yield f"{figures.unkept} more sources or batches are not tracked, such as: {names}", "yellow"


@command(sources_app, "accept-gap", "metering sources accept-gap edge-7f3a 17-19", reads=True, changes=True)
def accept_gap(
    session: Session,
    source: Annotated[str, argument("SOURCE", "The producer's source_id.")],
    numbers: Annotated[
        str, argument("NUMBERS", "One number, a range FIRST-LAST, or `all` for all numbers missing now.")
    ],
) -> None:
    """Accept that some numbers will never arrive. Accepted gaps no longer count, and no longer delay reports.

    If a batch with such a number arrives after all, it is metered as usual. The reconciler applies the accepted gap at
    its next tick.
    """
    _rule(session, source, RulingKind.ACCEPT_GAP, _numbers(numbers))


@command(sources_app, "forget", "metering sources forget edge-7f3a", reads=True, changes=True)
def forget(session: Session, source: Annotated[str, argument("SOURCE", "The producer's source_id.")]) -> None:
    """Forget a producer's last number, its gaps and its silence. Batches that the producer has sent stay metered.

    If the producer sends again, its numbering begins with that batch. The reconciler applies the ruling at its next
    tick.
    """
    _rule(session, source, RulingKind.FORGET, None)


def _rule(session: Session, source: str, kind: RulingKind, numbers: tuple[int, int] | None) -> None:
    region = session.region()
    state = next((each for each in region.jobs.source_keeper.states() if each.source_id == source), None)
    if state is None:
        raise CommandFailedError(f"There is no source {source}.", "To see all sources: metering sources")
    first, last = numbers or (0, max((end for _, end in state.gaps), default=0))
    touched = [(max(start, first), min(end, last)) for start, end in state.gaps if start <= last and end >= first]
    missing = sum(end - start + 1 for start, end in touched) + (state.unlisted_numbers if numbers is None else 0)
    chosen = "all" if numbers is None else intervals([numbers])
    subject = source if kind is RulingKind.FORGET else f"{source} {chosen}"
    consequence = _consequence(state, kind, missing=missing, gaps=intervals(touched))
    with session.deed(what=f"sources {kind.value}", subject=subject, consequence=consequence) as done:
        at_ms = SystemClock().now_ms()
        ruling = Ruling(
            source_id=source,
            kind=kind,
            at_ms=at_ms,
            by=region.caller(),
            # The ruling must outlive today's markers, because each scan derives the source from them again.
            expires_at=at_ms // 1000 + region.settings.marker_life_s + DAY_S,
            numbers=numbers,
        )
        region.items.put(Put(table=Table.LEDGER, item=ruling.to_item()))
        done.result = f"{missing} missing numbers are no gap any more"
    session.write(_RULING.one((source, kind, chosen, missing, intervals(touched), ruling.by, at_ms // 1000)))
    say("The reconciler applies this at its next tick. To apply it now: metering reconcile")


def _consequence(state: SourceState, kind: RulingKind, *, missing: int, gaps: str) -> str:
    if kind is RulingKind.FORGET:
        return (
            f"Its last number {state.last_sequence}, its {missing} missing numbers and its silence are forgotten; "
            "no report waits for it, until it sends again."
        )
    listed = f" ({gaps})" if gaps else ""
    return f"{missing} missing numbers{listed} of {state.source_id} are no gap any more, and no report waits for them."


def _numbers(text: str) -> tuple[int, int] | None:
    if text == "all":
        return None
    match = _NUMBERS.fullmatch(text)
    first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
    if first > last:
        raise WrongUsageError(f"{text} is neither a number nor a range.", "Write one number, FIRST-LAST, or all.")
    return first, last
