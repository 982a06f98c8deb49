"""`metering context`: captured descriptions of networks, in immutable versions, by which traffic is classified."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import connecting
from metering.cli.command import Session, bar, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import argument, family, option
from metering.errors import UnavailableError
from metering.hours import parse_hour, rfc3339
from metering.reports.answer import ListedRows, copied, exact
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.adapters.aws.inventory import Step
    from metering.onramps.context import document
    from metering.onramps.context.store import Captured, ContextStore
    from metering.reports.answer import Answer

context = family(
    "Network descriptions that logs are judged by: inventory, address ranges and flow logs, in immutable versions."
)

FolderOption = Annotated[Path | None, option("--context", "DIR", "Folder with contexts. Default: the stage's own.")]

_CAPTURE_EXAMPLES = """Examples:

    metering context capture --regions us-west-2,us-east-1 -o ctx/
    metering context capture --role-arn arn:aws:iam::444455556666:role/logs
    metering context capture --from description.json --ip-ranges ip-ranges.json -o ctx/

Then: metering ingest --dry-run s3://acme-logs/AWSLogs/ --since 1d --context ctx/
"""
# Service -> purpose of the denied call.
_LACKING = {
    "s3": "Regions of buckets are not known. Only S3 access logs without regions need them.",
    "ec2": "What it would tell of transit gateways is not known, and what depends on it is unclassified.",
    "ec2:DescribeTags": "Workloads by tags are not known.",
    "ec2:DescribeVpcEndpoints": "The services of endpoints are not known.",
}
_TAG_KEY = re.compile(r"[\w .:/=+@-]{1,128}")
ALL = "all"
_NONE = "To capture one: metering context capture"
_HOUR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2})(:00(:00)?)?Z?")
_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}")


@command(context, "capture", changes=True, epilog=_CAPTURE_EXAMPLES)
def capture(
    session: Session,
    regions: Annotated[
        str | None, option("--regions", "NAMES", "Regions to describe, comma-separated. Default: that of --region.")
    ] = None,
    role_arn: Annotated[
        list[str] | None, option("--role-arn", "ARN", "Role of another account to describe too; may be repeated.")
    ] = None,
    source: Annotated[Path | None, option("--from", "FILE", "Use this description instead of calling EC2.")] = None,
    ip_ranges: Annotated[
        str | None, option("--ip-ranges", "FILE|URL", "AWS's address ranges. Default: the list that AWS publishes.")
    ] = None,
    tags: Annotated[
        str,
        option("--tags", "KEYS", "Keys of the tags to capture with it, comma-separated, besides those of services."),
    ] = "Name",
    folder: Annotated[
        Path | None,
        typer.Option("--into", "-o", metavar="DIR", help="Folder for the context. Default: the stage's bucket."),
    ] = None,
) -> None:
    """Capture a context: a description of networks and flow logs, by which the traffic in logs is classified.

    The command only reads from AWS: EC2's Describe actions in each region, for this account and each --role-arn, and
    AWS's list of address ranges. With -o, no stage is required, and the calls go to AWS unless --endpoint is given.

    A context takes effect at the next full hour, and is never changed. If a context equals the newest stored context,
    it is not stored again.
    """
    from metering.adapters.description_files import described_by_file
    from metering.reports.operators.ingest_answer import captured_answer

    chosen, roles, keys = _regions(regions, session), _roles(role_arn or []), _tags(tags)
    if source is not None and (regions or roles):
        raise WrongUsageError("--from takes a description as it is.", "Leave --regions and --role-arn out.")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise WrongUsageError(f"{folder} is no folder.", "Name a folder, or none for the stage's bucket.")
    # Networks are described where they exist: on AWS even for an emulated stage, unless an endpoint is named.
    named = session.named_endpoint or os.environ.get("AWS_ENDPOINT_URL") or None
    # Permission is checked before any AWS call.
    endpoint = named if folder is not None else session.endpoint
    with _ranges_explained():
        if source is not None:
            description = described_by_file(source, ip_ranges=ip_ranges)
        else:
            description = _described_by_aws(session, endpoint, chosen, roles, keys, ip_ranges)
    captured = _kept(session, description, folder)
    for note in captured.context.notes:
        say(note)
    session.write(captured_answer(captured.context, kept=captured.kept))
    say(_said(captured))


@command(context, "example", "metering context example try/")
def example(
    session: Session,
    folder: Annotated[Path, argument("DIR", "Folder for the log and the context; it is made if it is missing.")],
    lines: Annotated[int, typer.Option("--lines", min=100, max=1_000_000, help="Lines of the flow log.")] = 5_000,
) -> None:
    """Write a made-up network to a folder, to try what logs say: a flow log of five minutes, and its context.

    Nothing is sent, and no stage and no AWS account is needed. `nat_gateway_bytes` is the network's own count.
    """
    from metering.adapters.folders import FolderLogStore
    from metering.hours import hour_of
    from metering.onramps.context.inventory import context_of
    from metering.onramps.context.store import ContextStore
    from metering.replay.network import SLOT_S, SmallNetwork

    first_s = (int(time.time()) - HOUR_S) // SLOT_S * SLOT_S
    network = SmallNetwork(1, first_s)
    file = network.file(lines)
    contexts = folder / "context"
    log = folder / "flowlogs" / file.key
    try:
        contexts.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(file.body)
    except OSError as error:
        raise CommandFailedError(f"Cannot write to {folder}: {error.strerror}.", "Name another folder.") from error
    ContextStore(FolderLogStore(contexts)).put(context_of(network.description(first_s), hour_of(first_s)))
    session.write(
        ListedRows(copied("log", "context"), exact("nat_gateway_bytes")).answer(
            [(str(folder / "flowlogs"), str(contexts), sum(file.nat_bytes.values()))],
            commands=(f"metering ingest --dry-run --who {folder / 'flowlogs'} --context {contexts}",),
        )
    )


@command(context, "list", "metering context list --stage prod --format table", reads=True)
def list_(session: Session, folder: FolderOption = None) -> None:
    """List the stored contexts, newest first."""
    from metering.reports.operators.ingest_answer import contexts_answer

    names = list(_store(session, folder).names())
    session.write(contexts_answer(names))
    if not names:
        say(_NONE)


@command(
    context,
    "show",
    "metering context show",
    "metering context show 2026-11-24T13 --context ctx/",
    "metering context show --whose 10.0.3.17",
    reads=True,
)
def show(
    session: Session,
    which: Annotated[
        str, argument("CONTEXT", "The hour at which the context takes effect, or the beginning of its name.")
    ] = "newest",
    whose: Annotated[
        str | None,
        option("--whose", "IDS", "Show whose these interfaces are, by id, address or resource, or `all` of them."),
    ] = None,
    folder: FolderOption = None,
) -> None:
    """Show the content of a context: accounts, networks, flow logs and their overlaps, address ranges.

    With --whose, show the workload of interfaces: a service of ECS, a node group of EKS, an Auto Scaling group, a
    function, a load balancer, or else the tag Name.
    """
    from metering.reports.operators.ingest_answer import context_answer

    store = _store(session, folder)
    shown = _chosen(store, which)
    session.write(context_answer(shown) if whose is None else _whose(shown, store, _listed(whose)))
    for note in shown.notes:
        say(note)


def _whose(context: document.Context, store: ContextStore, wanted: list[str]) -> Answer:
    """Owners of the wanted interfaces, one row each.

    Raises:
        CommandFailedError: A wanted text names no interface of the context.
    """
    from metering.onramps.context.holders import Workloads
    from metering.reports import answer

    shape = answer.ListedRows(
        answer.copied("interface", priority=answer.KEEP),
        answer.copied("account", "vpc", "subnet", priority=answer.ROOMY),
        answer.copied("addresses", "kind"),
        answer.copied("resource", priority=answer.KEEP, about="what holds the interface"),
        answer.copied("workload", priority=answer.KEEP),
        answer.prose("tags", priority=answer.ROOMY),
    )
    workloads = Workloads(context, store.tags_at(context.effective_s))
    vpcs = {each.id: each.vpc_id for each in context.subnets}
    rows, met = [], set()
    for each in context.interfaces:
        owned = workloads.of(each.id)
        names = {each.id, owned.resource_id, *each.addresses} & set(wanted)
        met |= names
        if names or wanted == [ALL]:
            tags = [f"{key}={value}" for key, value in sorted(owned.tags.items())]
            place = each.account_id, vpcs[each.subnet_id], each.subnet_id
            rows.append((each.id, *place, each.addresses, each.kind, owned.resource_id, owned.workload, tags))
    if missing := sorted(set(wanted) - met - {ALL}):
        raise CommandFailedError(
            f"This context has no interface {', '.join(missing)}.",
            "To see all of them: metering context show --whose all",
        )
    return shape.answer(rows, empty="The context has no interfaces.")


@contextmanager
def _ranges_explained() -> Iterator[None]:
    """Explain what to do if the address ranges cannot be downloaded."""
    from metering.adapters.description_files import OPERATION

    try:
        yield
    except UnavailableError as error:
        if not error.operation.startswith(OPERATION):
            raise
        raise CommandFailedError(
            f"The address ranges of AWS cannot be fetched: {error}.",
            "Give them as a file, which any machine with a network fetches: --ip-ranges FILE",
        ) from error


def _described_by_aws(
    session: Session,
    endpoint: str | None,
    regions: list[str],
    roles: list[str],
    tags: list[str],
    ip_ranges: str | None,
) -> Mapping[str, object]:
    from metering.adapters.aws.inventory import AwsInventory
    from metering.adapters.aws.session import Clients
    from metering.adapters.description_files import URL, fetched_ip_ranges

    clients = Clients.from_env(os.environ, region=session.region_name, endpoint_url=endpoint)
    ranges = partial(fetched_ip_ranges, ip_ranges or URL, ca_bundle=clients.access.ca_bundle)
    with bar("describing") as move:

        def tell(step: Step) -> None:
            move(completed=step.number, total=step.of, description=step.what)

        inventory = AwsInventory(
            clients,
            regions=regions,
            role_arns=roles,
            tag_keys=tags,
            asks_for_buckets=True,
            ip_ranges=ranges,
            on_step=tell,
        )
        description = inventory.describe()
    for each in inventory.skipped:
        action = each.partition(" ")[0]
        say(f"{each} was denied. {_LACKING.get(action) or _LACKING[action.partition(':')[0]]}")
    return description


def _kept(session: Session, description: Mapping[str, object], folder: Path | None) -> Captured:
    """Store the context made from a description; in a stage, only with the user's consent."""
    from metering.cli.billing.home import billing_home
    from metering.onramps.context.store import capture_context, context_from
    from metering.wiring.onramps import with_networks

    now_s, store = int(time.time()), _store(session, folder)
    if folder is None:
        description = with_networks(description, lambda: billing_home(session).objects, store)
    # A contradiction is refused before anything is created and before the user is asked.
    context_ = context_from(description, now_s)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return capture_context(description, store, now_s)
    consequence = f"Lines of logs from {rfc3339(context_.effective_s)} on are judged by this context, for good."
    with session.deed(what="context capture", subject=context_.sha256, consequence=consequence) as done:
        captured = capture_context(description, store, now_s)
        done.result = _said(captured)
    return captured


def _said(captured: Captured) -> str:
    effective = rfc3339(captured.context.effective_s)
    if captured.kept:
        return f"It judges lines of logs from {effective} on, and older ones if it is the first."
    return f"Nothing has changed since the context that holds from {effective}, so nothing new was kept."


def _store(session: Session, folder: Path | None) -> ContextStore:
    from metering.adapters.folders import FolderLogStore
    from metering.onramps.context.store import ContextStore

    return ContextStore(session.region().objects if folder is None else FolderLogStore(folder))


def _chosen(store: ContextStore, which: str) -> document.Context:
    names = list(store.names())
    if not names:
        raise CommandFailedError("No context is kept there.", _NONE)
    if which == "newest":
        return store.get(*names[-1])
    hour = _HOUR.fullmatch(which)
    hour_s = parse_hour(hour[1]) if hour is not None else None
    found = [name for name in names if name[0] == hour_s or (hour_s is None and name[1].startswith(which))]
    if len(found) != 1:
        how_many = "No context is" if not found else f"{len(found)} contexts are"
        raise CommandFailedError(f"{how_many} meant by {which}.", "To see all of them: metering context list")
    return store.get(*found[0])


def _listed(text: str) -> list[str]:
    return [name for name in re.split(r"[,\s]+", text) if name]


def _tags(text: str) -> list[str]:
    keys = [key.strip() for key in text.split(",") if key.strip()]
    for key in keys:
        if _TAG_KEY.fullmatch(key) is None:
            raise WrongUsageError(f"{key} is no key of a tag.", "Separate keys by commas: Name,team.")
    return keys


def _regions(text: str | None, session: Session) -> list[str]:
    names = _listed(text or "") or [session.region_name]
    return [connecting.checked_region(name) for name in names]


def _roles(arns: list[str]) -> list[str]:
    for arn in arns:
        if _ROLE_ARN.fullmatch(arn) is None:
            raise WrongUsageError(f"{arn} is no ARN of a role.", "It is like arn:aws:iam::444455556666:role/NAME.")
    return arns
