"""`metering owners`: who owns workloads, by a book of rules, in immutable versions."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

from metering.cli.billing.home import billing_home, home_ground, owners_file
from metering.cli.command import Session, command, say
from metering.cli.commands.analyst.report import FromOption, ToOption
from metering.cli.failures import CommandFailedError
from metering.cli.options import LastOption, argument, family, switch
from metering.cli.printing.output import write_page
from metering.errors import ObjectMissingError

owners = family("Owners of workloads: a book of rules, effective by the hour, in immutable versions.")


@command(owners, "put", "metering owners put owners.toml", reads=True, changes=True, everywhere=True)
def put(session: Session, file: Annotated[Path, argument("FILE", "Book of owners, TOML or JSON.")]) -> None:
    """Replace the book of owners, as the next version. A file with faults is refused, and each fault is named.

    The file has rules, each with an `owner` and what its workloads have (`when`: tag, account, resource, workload, vpc,
    subnet). The full hours `from` and `to` limit a rule to a time. The first rule that fits decides. Open months follow
    the newest version. A `network` (name, cidrs) names a destination, from the next capture of a context on. The same
    content again changes nothing.
    """
    from metering.reports.prices import owners_answer
    from metering.wiring.billing import build_owners

    # Permission is checked before the file is read.
    home = billing_home(session)
    made = owners_file(file)
    store = build_owners(home)
    before = store.newest()
    named = len({rule.owner for rule in made.rules})
    with session.deed(
        what="owners put",
        subject=f"version {before.version + 1}",
        consequence=f"{len(made.rules)} rules name {named} owners, also of the past hours of open months.",
        ground=home_ground(session, home),
    ) as done:
        written = store.put(made)
        done.result = f"version {written.version}, {written.sha256[:16]}"
    if written.version == before.version:
        say(f"Nothing was written: version {before.version} says the same.")
    session.write(owners_answer(written))


@command(owners, "try", "metering owners try owners.toml --last 7d", reads=True, everywhere=True)
def try_(
    session: Session,
    file: Annotated[Path, argument("FILE", "Book of owners, TOML or JSON.")],
    start: FromOption = None,
    end: ToOption = None,
    last: LastOption = None,
) -> None:
    """Show what each rule of a book would own, which rules own nothing, and what moves against the version in force.

    Nothing is stored. The rules are asked about the causes of the time range, by default of this month so far. Names of
    networks are not tried: they hold from the next capture on.
    """
    from metering.cli.fleet import connections
    from metering.reports.who import WhoParameters
    from metering.wiring.answers.who import owners_of, trial_of

    now_s = int(time.time())
    query = WhoParameters(start=start, end=end, last=last, group_by="owner").who_query(now_s=now_s)
    # Permission is checked before the file is read.
    in_force = owners_of(billing_home(session), None)
    tried = owners_file(file)
    session.write(trial_of(connections(session), query, tried=tried, in_force=in_force, now_s=now_s))


@command(owners, "show", "metering owners show 2 --as-file > owners.json", reads=True, everywhere=True)
def show(
    session: Session,
    version: Annotated[int | None, argument("N", "Version. Default: the version in force.", min=1)] = None,
    as_file: Annotated[bool, switch("--as-file", "Print the book as a file that `owners put` accepts.")] = False,
) -> None:
    """Show the rules of the book of owners, in the order in which they are asked."""
    from metering.billing.owners import owners_value
    from metering.reports.prices import owners_answer
    from metering.wiring.billing import build_owners

    store = build_owners(billing_home(session))
    try:
        found = store.newest() if version is None else store.get(version)
    except ObjectMissingError as error:
        raise CommandFailedError(
            f"There is no version {version} of the book of owners.", "List them: metering owners history"
        ) from error
    if as_file:
        write_page(f"{json.dumps(owners_value(found), indent=1)}\n", session.output)
    else:
        session.write(owners_answer(found))


@command(owners, "history", reads=True, everywhere=True)
def history(session: Session) -> None:
    """List the versions, newest first, each with its time and digest."""
    from metering.reports.prices import owner_books_answer
    from metering.wiring.billing import build_owners

    store = build_owners(billing_home(session))
    session.write(owner_books_answer([(store.get(number), at_s) for number, at_s in reversed(store.listed())]))
