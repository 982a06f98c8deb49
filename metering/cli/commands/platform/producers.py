"""`metering producers`: who may send batches, what each of them owns, and how one begins to send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import everywhere
from metering.cli.command import Session, command, say
from metering.cli.failures import WrongUsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.ledger.notes.producers import ShownProducer
    from metering.operations.producers import ProducerBook
    from metering.reports.answer import Answer
    from metering.wiring.connection import RegionConnection

producers = typer.Typer(
    help="Producers: who may send batches, for which accounts, and under which names.",
    no_args_is_help=True,
)

_ADD = """Examples:

    metering producers add edge-7f3a --accounts 111122223333,444455556666 \\
        --role-arn arn:aws:iam::111122223333:role/edge

    metering producers add collector --accounts all

What it owns:

- batch ids that begin with its name and a slash or a colon, such as edge-7f3a/000184;
- its name as source id, and those that begin with it and a slash or a colon;
- objects below ingest/NAME/ and drop/NAME/, and its accounts.
"""
NameArgument = Annotated[str, typer.Argument(metavar="PRODUCER", help="Its name.")]


@command(producers, "add", reads=True, changes=True, epilog=_ADD)
def add(
    session: Session,
    name: NameArgument,
    accounts: Annotated[
        str, typer.Option("--accounts", metavar="IDS", help="Accounts that it may meter, with commas between; or all.")
    ],
    role_arn: Annotated[
        str | None,
        typer.Option(
            "--role-arn",
            metavar="ARN",
            help="Role, user or account (its root) whose workloads may take the producer's role. "
            "Default: the account of the stage.",
        ),
    ] = None,
) -> None:
    """Register a producer in this region: make its role and its entry, and show what its workload needs.

    The role may send to the queue, and put objects below two prefixes of its own. Added again, a producer gets other
    accounts, another trust, or the new id of a role that was made anew. In a stage whose setting `producers` is
    `registered`, batches of all others are refused; in one that is `open`, nobody is judged.
    """
    from metering.operations.producers import producer_problems
    from metering.reports.operators.producers_answer import ALL_ACCOUNTS

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


@command(
    producers, "list", reads=True, everywhere=True, epilog="Example:\n\n    metering producers list --format table"
)
def list_(session: Session) -> None:
    """List registered producers with their accounts and roles, and whether this stage judges senders by them."""
    from metering.reports.operators.producers_answer import producers_answer

    def known(region: RegionConnection) -> Answer:
        return producers_answer(_book(region).everyone(), judged=region.services is not None)

    session.write(everywhere(session, known))


@command(producers, "show", reads=True, epilog="Example:\n\n    metering producers show edge-7f3a")
def show(session: Session, name: NameArgument) -> None:
    """Show a producer: what it owns, what its workload needs, and what keeps its batches from being taken.

    It warns if the role was made anew, because SQS then calls it by another id; if the role trusts somebody who is
    gone; and if this endpoint gives all senders one id, as emulators do.
    """
    region = session.region()
    shown = _book(region).show(name)
    session.write(_shown(region, shown))
    for warning in shown.warnings:
        say(warning, "yellow")


@command(producers, "remove", reads=True, changes=True, epilog="Example:\n\n    metering producers remove edge-7f3a")
def remove(session: Session, name: NameArgument) -> None:
    """Take a producer out of the registry, and its role away. What it sent before stays metered.

    Send what is in the queue and in quarantine first: where senders are judged, the rest of it is refused within a
    minute. The role goes with the last region that the producer is registered in.
    """
    from metering.reports.operators.producers_answer import producers_answer

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
    session.write(producers_answer(book.everyone(), judged=region.services is not None))


def _some(accounts: Sequence[str] | None) -> str:
    if accounts is None:
        return "all accounts"
    return f"{len(accounts)} accounts" if len(accounts) > 1 else f"account {accounts[0]}"


def _shown(region: RegionConnection, shown: ShownProducer) -> Answer:
    from metering.reports.operators.producers_answer import producer_answer, snippet_of

    names = region.names
    snippet = snippet_of(
        shown.registered, queue_url=names.ingest_queue_url, bucket=names.data_bucket, region=region.region
    )
    return producer_answer(shown, snippet=snippet)


def _book(region: RegionConnection) -> ProducerBook:
    from metering.operations.producers import ProducerBook

    return ProducerBook(items=region.items, roles=region.producer_roles, clock=region.clock)
