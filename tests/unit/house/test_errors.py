"""The tree of error classes equals its drawing in the docstring, and every error can be pickled."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import re
from collections.abc import Iterator

import infra
import metering
from infra.bundle import BundleTooLargeError
from infra.failures import DeploymentError
from metering import errors
from metering.adapters.aws.session import ReadOnlyError
from metering.audit.settling import ScanTooLongError
from metering.audit.verification import ManifestError
from metering.billing.budgets.budget import BudgetRefusedError
from metering.billing.documents import DocumentRefusedError
from metering.billing.freezing import NotClosable, PeriodNotClosableError
from metering.billing.invoices.document import InvoiceMissingError
from metering.billing.invoices.inputs import InputChangedError
from metering.billing.invoices.issuing import IssueRefusedError, Obstacle
from metering.cli.failures import CommandFailedError, CommandStoppedError, WrongUsageError
from metering.client.connection import SumsDifferError
from metering.errors import MeteringError
from metering.fleet.regions import Answered, Finding, RegionState
from metering.fleet.steps import PreflightFailedError
from metering.lake.view import RowsGoneError
from metering.ledger.runs import OutOfTimeError as ChainOutOfTimeError
from metering.ledger.runs import RunOverError
from metering.onramps.context.description import DescriptionError
from metering.onramps.context.document import ContextUnreadableError
from metering.operations.doctor.bench import CannotAskError, EndlessListingError, RefusedError
from metering.producer.batches import JournalError, KeyReusedError, NotSentError, RecordsRefusedError
from metering.replay.given import InputError
from metering.replay.sender import SendingFailedError
from metering.reports.accounts import AccountsNotKeptError
from metering.reports.exports.destination import DestinationTakenError
from metering.reports.exports.exporting import ExportWrongError
from metering.reports.sql.ahead import StoppedError
from metering.reports.sql.query import QueryError, QueryStoppedError
from metering.reports.time_range import InvalidParametersError, ParameterProblem
from metering.rollup.as_of_now import RegionIncompleteError, TooMuchWaitsError
from metering.rollup.plan import NotWaitingError
from tests.support.with_each import with_each

_MISSING = Finding(check="type AWS::SQS::Queue", answered=Answered.FAILED, detail="no such type")
_STATE = RegionState(region="ap-southeast-9", findings=(_MISSING,))
EXAMPLES: list[MeteringError] = [
    MeteringError("anything"),
    errors.UnavailableError("sqs.SendMessage", "throttled", may_have_applied=False),
    errors.ThrottledError("dynamodb.TransactWriteItems", "throttled", may_have_applied=False),
    errors.OutOfTimeError(),
    errors.ConditionFailedError({"pk": "B#1"}),
    errors.TransactionCanceledError([None, ("ConditionalCheckFailed", {"pk": "B#1"}), ("ThrottlingError", None)]),
    errors.ItemTooLargeError("W#source / edge-1", "503967 bytes"),
    errors.ObjectMissingError("staging/1"),
    errors.ObjectUnreadableError("ingest/1", "InvalidRequest"),
    errors.ObjectDamagedError("lake/1", "no footer"),
    errors.ObjectChangedError("drop/1"),
    errors.BatchRefusedError([("invalid_from", "no region")]),
    errors.LogFileRefusedError("truncated", "the file ends within a gzip member"),
    ContextUnreadableError("it is no context"),
    InputChangedError("It has other content.", "Bring it back."),
    InvoiceMissingError("There is no invoice x.", "List them."),
    IssueRefusedError("2026-11", [Obstacle("eu-west-1 is open", "Close it.")]),
    BudgetRefusedError(("the amount is 0",)),
    DocumentRefusedError("prices.json", ["it has no products"], "Look at the file."),
    DescriptionError(("subnet-1 and subnet-2 of vpc-1 overlap",)),
    errors.LedgerCorruptError("two verdicts"),
    errors.FormatTooNewError(found=3, known=1, needed="0.7.0"),
    errors.FormatTooOldError(found=1, known=2),
    errors.GenerationError("The ledger goes with usage table 3, and 2 is deployed."),
    errors.SettingsError(["window_s is wrong"]),
    errors.OperationFailedError("It failed.", "Run it again."),
    ReadOnlyError("dynamodb.PutItem"),
    errors.EarlyEndError(),
    RunOverError(),
    ChainOutOfTimeError(),
    NotWaitingError(),
    RegionIncompleteError(),
    ScanTooLongError(),
    CannotAskError("The caller may not call CreateQueue.", "Use other credentials."),
    RefusedError("PutObject was refused: BadDigest"),
    EndlessListingError("more than 50 pages"),
    InvalidParametersError([ParameterProblem(parameter="from", value="now", problem="is not a time.")]),
    PeriodNotClosableError("2026-11", NotClosable.TOO_EARLY, "too early"),
    ManifestError("line 1 is not JSON"),
    PreflightFailedError("ap-southeast-9", _STATE, [_MISSING]),
    InputError("no records"),
    NotSentError("sqs.SendMessageBatch", "throttled", unsent=3, journalled=True),
    RecordsRefusedError([(0, "no JSON")], 7),
    KeyReusedError("flows.log:0"),
    JournalError("It is full.", "Make room."),
    SumsDifferError({"usage": "1", "rows": "2", "markers": None}, None),
    SendingFailedError("sqs.SendMessageBatch: no answer", ["b1", ""]),
    DestinationTakenError("out/ is not empty; nothing was written.", "Name another place."),
    TooMuchWaitsError("500 commits wait.", "Ask without `now`."),
    AccountsNotKeptError("The accounts were not summed yet.", "To do it now: metering budget update"),
    ExportWrongError("BilledCost 1 is not PricingQuantity 2 times ContractedUnitPrice 3.", "Do not use its files."),
    QueryError("no such column"),
    QueryStoppedError("It took longer than 600 s.", "Ask for less."),
    StoppedError("it was stopped"),
    CommandFailedError("It failed.", "Run it again."),
    CommandStoppedError("You stopped it.", "Run it again."),
    WrongUsageError("--limit 0"),
    DeploymentError("deploy", "It failed.", stack="metering-prod-data", operated=True),
    BundleTooLargeError(300, 225),
    RowsGoneError("Rows before 2026-10-01T00:00:00Z are not kept.", "Ask from then on."),
]


def drawn() -> dict[str, str]:
    """Each error class that the docstring draws, with its parent class."""
    parents: dict[str, str] = {}
    path = ["MeteringError"]
    for line in re.findall(r"^    ([│ ]*[├└]── \w+)", errors.__doc__ or "", re.MULTILINE):
        branch, name = line.split("── ")
        depth = (len(branch) + 3) // 4
        path[depth:] = [name]
        parents[name] = path[depth - 1]
    return parents


def below(kind: type[MeteringError]) -> Iterator[type[MeteringError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    for module in pkgutil.walk_packages(metering.__path__, "metering."):
        importlib.import_module(module.name)
    found = {
        kind.__name__: (kind.__bases__[0]).__name__
        for kind in below(MeteringError)
        if kind.__module__.startswith("metering.")
    }
    assert drawn() == found


def test_every_error_has_an_example_here() -> None:
    for package in (metering, infra):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    ours = {kind for kind in below(MeteringError) if kind.__module__.startswith(("metering.", "infra."))}
    assert {type(example) for example in EXAMPLES} == {MeteringError, *ours}


@with_each(EXAMPLES, lambda error: type(error).__name__)
def test_an_error_is_the_same_in_another_process(error: MeteringError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is type(error)
    assert (str(copy), copy.__dict__, copy.retryable) == (str(error), error.__dict__, error.retryable)
