"""Every error that the project raises on purpose.

    MeteringError
    ├── UnavailableError            transient: a dependency throttled, conflicted or gave no answer  (retryable)
    │   ├── ThrottledError          a service is asked for more than it gives at present
    │   ├── OutOfTimeError          reading took longer than it may here; elsewhere it may be fast enough
    │   └── NotSentError            a producer could not send everything in time               producer.batches
    ├── ConditionFailedError        a conditional write found another state; carries the item found
    ├── TransactionCanceledError    a transaction was not applied; carries one reason per action
    ├── ItemTooLargeError           an item or a transaction is larger than DynamoDB takes
    ├── ObjectMissingError          an object does not exist
    ├── ObjectUnreadableError       an object exists, but the store does not hand it out
    ├── ObjectDamagedError          an object exists, but cannot be decoded
    ├── ObjectChangedError          an object is not the one that was announced (If-Match failed)
    ├── BatchRefusedError           a whole batch is refused; carries every problem found
    ├── LogFileRefusedError         a log file cannot be metered as a whole; says why
    ├── ContextUnreadableError      a stored context is none, or not what its name says       onramps.context.document
    ├── LedgerCorruptError          the ledger or an object contradicts the protocol: stop and alarm
    ├── FormatTooNewError           newer code wrote the ledger, and this one must not touch it
    ├── FormatTooOldError           older code wrote the ledger, and it was not upgraded
    ├── GenerationError             ledger and usage table do not go together: one was restored or replaced
    ├── ReadOnlyError               what may only read was about to change something          adapters.aws.session
    ├── EarlyEndError               work ends early and nothing is wrong: its caller catches it
    │   ├── RunOverError            another process has finished the run of a chain           ledger.runs
    │   ├── OutOfTimeError          there is no time for the next step of a run               ledger.runs
    │   ├── NotWaitingError         a commit was rolled up while a run was planned            rollup.plan
    │   ├── ScanTooLongError        a table is too large for the time that a scan has         audit.settling
    │   └── CannotAskError          the doctor may not ask this, or there is nothing to ask  operations.doctor.bench
    ├── RefusedError                AWS refused a call of the doctor                          operations.doctor.bench
    ├── EndlessListingError         a listing has more pages than can be                      operations.doctor.bench
    ├── SettingsError               settings do not fit together; carries every problem found
    ├── InvalidParametersError      a report is asked for what does not exist; every problem found  reports.time_range
    ├── PeriodNotClosableError      a month cannot be closed now                              billing.closing
    └── OperationFailedError        an operation that a person asked for was refused or failed; says why
        ├── DescriptionError        a description does not become a context               onramps.context.description
        ├── ManifestError           a file is not a manifest                                  audit.verification
        ├── PreflightFailedError    a region lacks what the service cannot do without         fleet.steps
        ├── DocumentRefusedError    a price book or another document of money is refused      billing.json_documents
        ├── BudgetRefusedError      a budget makes no sense; every problem is said            billing.budgets.budget
        ├── InputChangedError       an input of an invoice is not what was pinned             billing.invoices.inputs
        ├── InvoiceMissingError     there is no invoice of this id                            billing.invoices.document
        ├── IssueRefusedError       an invoice cannot be issued now; says why                 billing.invoices.issuing
        ├── InputError              a file has no records that a replay can send              replay.given
        ├── RecordsRefusedError     records of a producer that cannot be written              producer.batches
        ├── KeyReusedError          a producer's key comes with other records than before     producer.batches
        ├── JournalError            a producer's journal cannot be used                       producer.batches
        ├── SumsDifferError         a report does not say what its rows say                   client.connection
        ├── SendingFailedError      a replay could not send all of its messages               replay.sender
        ├── DestinationTakenError   an export was asked for where something else is         reports.exports.destination
        ├── ExportWrongError        an export is not what it should be: no manifest          reports.exports.exporting
        ├── TooMuchWaitsError       more waits for the roll-up than one answer may read       rollup.as_of_now
        ├── AccountsNotKeptError    the accounts of a month are not summed                    reports.accounts
        ├── QueryError              DuckDB refuses a query                                    reports.sql.query
        ├── QueryStoppedError       a query took too long, or too much of the machine         reports.sql.query
        ├── StoppedError            work was stopped on request                               reports.sql.ahead
        └── CommandFailedError      a command ends with exit code 1                           cli.failures
            ├── CommandStoppedError a person stopped it: exit code 130                        cli.failures
            └── WrongUsageError     the arguments make no sense: exit code 2                  cli.failures

Errors raised by a single module are defined in that module. Adapters translate known errors into these classes; unknown
errors pass through.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar


class MeteringError(Exception):
    """Root of the tree. `retryable`: the same call may succeed later, unchanged."""

    retryable: ClassVar[bool] = False


class UnavailableError(MeteringError):
    """A dependency gave no usable answer; the same call is safe to repeat and may succeed.

    Attributes:
        operation: The call that failed, as `Service.Operation`.
        may_have_applied: False only if the dependency certainly did not apply the call (throttle, conflict).
    """

    retryable = True

    def __init__(self, operation: str, detail: str, *, may_have_applied: bool = True) -> None:
        super().__init__(operation, detail, may_have_applied)
        self.operation = operation
        self.detail = detail
        self.may_have_applied = may_have_applied

    def __reduce__(self) -> tuple[object, ...]:
        again = partial(type(self), self.operation, self.detail, may_have_applied=self.may_have_applied)
        return (again, ())

    def __str__(self) -> str:
        return f"{self.operation}: {self.detail}"


class ThrottledError(UnavailableError):
    """A service throttles calls; further calls make this worse."""


class OutOfTimeError(UnavailableError):
    """Reading a delivery exceeded its time limit."""

    def __init__(self) -> None:
        super().__init__("BatchReader.read", "it took too long", may_have_applied=False)

    def __reduce__(self) -> tuple[object, ...]:
        return (OutOfTimeError, ())


class ConditionFailedError(MeteringError):
    """A conditional write was not applied.

    Attributes:
        existing: The item found; None if it does not exist.
    """

    def __init__(self, existing: Mapping[str, object] | None) -> None:
        super().__init__(existing)
        self.existing = existing


# Reasons of a canceled transaction that are throttles (DynamoDB API reference, TransactWriteItems).
_THROTTLES = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError", "RequestLimitExceeded"})


class TransactionCanceledError(MeteringError):
    """A transaction was not applied.

    Attributes:
        reasons: One entry per action, in request order; None where the action was not the cause. An entry is
            `("ConditionalCheckFailed", item found or None)` or `(another code, None)`.
    """

    def __init__(self, reasons: Sequence[tuple[str, Mapping[str, object] | None] | None]) -> None:
        super().__init__(tuple(reasons))
        self.reasons = tuple(reasons)

    @property
    def condition_failed(self) -> bool:
        """Whether an action's condition failed. If none failed, the same transaction may be sent again."""
        return any(reason is not None and reason[0] == "ConditionalCheckFailed" for reason in self.reasons)

    @property
    def throttled(self) -> bool:
        """Whether a table throttled any of the transaction's actions."""
        return any(reason is not None and reason[0] in _THROTTLES for reason in self.reasons)


class ItemTooLargeError(MeteringError):
    """An item has more than 400 KB, or the items of a transaction have more than 4 MB. Nothing was written.

    Attributes:
        what: The key of the item, or `a transaction of n actions`.
        detail: Size of the item, or DynamoDB's message.
    """

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what = what
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.what} is too large: {self.detail}"


class ObjectMissingError(MeteringError):
    """The object at `key` does not exist."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"there is no object {self.key}"


class ObjectUnreadableError(MeteringError):
    """The object at `key` exists, but the store refuses to return it.

    Attributes:
        detail: What the store said.
    """

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(key, detail)
        self.key = key
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.key} cannot be read: {self.detail}"


class ObjectDamagedError(MeteringError):
    """The object at `key` cannot be decoded.

    Attributes:
        detail: What the decoder said.
    """

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(key, detail)
        self.key = key
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.key} is damaged: {self.detail}"


class ObjectChangedError(MeteringError):
    """The object at `key` is not the expected version (its ETag differs)."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class BatchRefusedError(MeteringError):
    """A whole batch is refused for good.

    Attributes:
        problems: Every problem found, as `(reason, detail)`; the first is the batch's reason.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    @property
    def reason(self) -> str:
        return self.problems[0][0]


class LogFileRefusedError(MeteringError):
    """A log file cannot be metered as a whole.

    Attributes:
        reason: A stable name, one of `metering.onramps.reasons`.
        detail: Why, for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class LedgerCorruptError(MeteringError):
    """The ledger or an object contradicts the protocol; work on it stops until a person has investigated."""


class EarlyEndError(MeteringError):
    """Work that ended early without an error. The caller that started the work catches this exception."""


class FormatTooNewError(MeteringError):
    """The ledger has a format that this code does not support, so the code must neither read nor write the ledger.

    Attributes:
        found: The ledger's format.
        known: The newest format that this code supports.
        needed: The version of metering that supports the ledger's format.
    """

    def __init__(self, *, found: int, known: int, needed: str) -> None:
        super().__init__(found, known, needed)
        self.found = found
        self.known = known
        self.needed = needed

    def __reduce__(self) -> tuple[object, ...]:
        return (partial(FormatTooNewError, found=self.found, known=self.known, needed=self.needed), ())

    def __str__(self) -> str:
        return (
            f"The region's data has format {self.found}, and this version of metering knows formats up to "
            f"{self.known}: use metering {self.needed} or newer."
        )


class FormatTooOldError(MeteringError):
    """The ledger has an older format than this code works with.

    Attributes:
        found: The ledger's format.
        known: The format that this code works with.
    """

    def __init__(self, *, found: int, known: int) -> None:
        super().__init__(found, known)
        self.found = found
        self.known = known

    def __reduce__(self) -> tuple[object, ...]:
        return (partial(FormatTooOldError, found=self.found, known=self.known), ())

    def __str__(self) -> str:
        return (
            f"The region's data has format {self.found}, and this version of metering works with format "
            f"{self.known}: run metering upgrade."
        )


class GenerationError(MeteringError):
    """The ledger and usage table do not match, so kind numbers in usage items could mean other kinds (P41)."""


class OperationFailedError(MeteringError):
    """An operation that a person requested was refused or failed.

    Attributes:
        reason: One sentence that says why.
        advice: The user's next step, or the effect of a repeated call; may be empty.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason, advice)
        self.reason = reason
        self.advice = advice
        # If a Python program does not catch the exception, it shows the advice below the reason.
        if advice:
            self.add_note(advice)

    def __str__(self) -> str:
        return self.reason


class SettingsError(MeteringError):
    """Settings contradict each other.

    Attributes:
        problems: Every problem found, one sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)
