"""Every error that the project raises deliberately.

    MeteringError
    ├── UnavailableError            transient: a dependency throttled, conflicted or gave no answer (retryable)
    │   ├── ThrottledError          a service throttled the call
    │   ├── OutOfTimeError          a read exceeded its time limit here; another process may have more time
    │   └── NotSentError            a producer could not send everything in time            producer.batches
    ├── ConditionFailedError        the condition of a write failed; carries the existing item
    ├── TransactionCanceledError    a transaction was not applied; carries one reason per action
    ├── ItemTooLargeError           an item or a transaction is larger than DynamoDB accepts
    ├── ObjectMissingError          an object does not exist
    ├── ObjectUnreadableError       an object exists, but the store does not return it
    ├── ObjectDamagedError          an object exists, but cannot be decoded
    ├── ObjectChangedError          an object is not the announced version (If-Match failed)
    ├── BatchRefusedError           a whole batch is refused; carries every problem
    ├── LogFileRefusedError         a log file cannot be metered as a whole; states the reason
    ├── ContextUnreadableError      a stored context is invalid, or does not match its name onramps.context.document
    ├── LedgerCorruptError          the ledger or an object contradicts the protocol: stop and alarm
    ├── FormatTooNewError           a newer release wrote the ledger, so this release must not use it
    ├── FormatTooOldError           an older release wrote the ledger, and it was not upgraded
    ├── GenerationError             ledger and usage table do not match: one was restored or replaced
    ├── ReadOnlyError               a read-only client was about to change something        adapters.aws.session
    ├── EarlyEndError               work ends early without an error: the caller catches it
    │   ├── RunOverError            another process has finished the run of a chain         ledger.runs
    │   ├── OutOfTimeError          too little time is left for the next step of a run      ledger.runs
    │   ├── RegionIncompleteError   the region's totals lack usage: read the accounts'       rollup.as_of_now
    │   ├── NotWaitingError         a commit was rolled up while a run was planned          rollup.plan
    │   ├── ScanTooLongError        a table is too large for the time limit of a scan       audit.settling
    │   └── CannotAskError          the doctor lacks a permission, or has nothing to check  operations.doctor.bench
    ├── RefusedError                AWS refused a call of the doctor                        operations.doctor.bench
    ├── EndlessListingError         a listing has more pages than its limit                 operations.doctor.bench
    ├── SettingsError               settings contradict each other; carries every problem
    ├── InvalidParametersError      a report has invalid parameters; carries every problem  reports.time_range
    ├── PeriodNotClosableError      a month cannot be closed now                            billing.freezing
    └── OperationFailedError        an operation requested by a person was refused or failed; states why
        ├── RowsGoneError           rows are older than the setting keeps them              lake.view
        ├── DescriptionError        a description cannot be converted to a context          onramps.context.description
        ├── ManifestError           a file is not a manifest                                audit.verification
        ├── PreflightFailedError    a region lacks something that the service requires      fleet.steps
        ├── DocumentRefusedError    a price book or another billing document is refused     billing.documents
        ├── BudgetRefusedError      a budget is invalid; every problem is stated            billing.budgets.budget
        ├── InputChangedError       an input of an invoice differs from the pinned input    billing.invoices.inputs
        ├── InvoiceMissingError     no invoice has this id                                  billing.invoices.document
        ├── IssueRefusedError       an invoice cannot be issued now; states why             billing.invoices.issuing
        ├── InputError              a file has no records that a replay can send            replay.given
        ├── RecordsRefusedError     records of a producer cannot be written                 producer.batches
        ├── KeyReusedError          a producer's key has other records than before          producer.batches
        ├── JournalError            a producer's journal cannot be used                     producer.batches
        ├── SumsDifferError         the totals of a report differ from its rows             client.connection
        ├── SendingFailedError      a replay could not send all of its messages             replay.sender
        ├── DestinationTakenError   the destination of an export contains other data        reports.exports.destination
        ├── ExportWrongError        an export failed a check, so it has no manifest         reports.exports.exporting
        ├── TooMuchWaitsError       more commits wait for roll-up than one answer may read  rollup.as_of_now
        ├── AccountsNotKeptError    the accounts of a month are not summed                  reports.accounts
        ├── QueryError              DuckDB refuses a query                                  reports.sql.query
        ├── QueryStoppedError       a query exceeded its limit of time or memory            reports.sql.query
        ├── StoppedError            work was stopped on request                             reports.sql.ahead
        └── CommandFailedError      a command ends with exit code 1                         cli.failures
            ├── CommandStoppedError a person stopped the command: exit code 130             cli.failures
            └── WrongUsageError     the arguments are invalid: exit code 2                  cli.failures

An error that only one module raises is defined in that module. Adapters translate errors they know into these classes;
all other errors pass through unchanged.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar


class MeteringError(Exception):
    """Root of the tree. `retryable`: whether the same call may succeed later, unchanged."""

    retryable: ClassVar[bool] = False


class UnavailableError(MeteringError):
    """A dependency returned no usable response; the same call may be repeated safely, and may then succeed.

    Attributes:
        operation: The call that failed, as `Service.Operation`.
        may_have_applied: False only if the dependency certainly did not execute the call (throttle, conflict).
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
    """A service throttles calls; further calls would make the overload worse."""


class OutOfTimeError(UnavailableError):
    """A delivery could not be read within its time limit."""

    def __init__(self) -> None:
        super().__init__("BatchReader.read", "it took too long", may_have_applied=False)

    def __reduce__(self) -> tuple[object, ...]:
        return (OutOfTimeError, ())


class ConditionFailedError(MeteringError):
    """A conditional write was not applied.

    Attributes:
        existing: The item that the write found; None if the item does not exist.
    """

    def __init__(self, existing: Mapping[str, object] | None) -> None:
        super().__init__(existing)
        self.existing = existing


# Reasons for a cancelled transaction that are throttles (DynamoDB API reference, TransactWriteItems).
_THROTTLES = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError", "RequestLimitExceeded"})


class TransactionCanceledError(MeteringError):
    """A transaction was not applied.

    Attributes:
        reasons: One entry per action, in the order of the request; None for an action that was not the cause. An entry
            is `("ConditionalCheckFailed", item found or None)` or `(another code, None)`.
    """

    def __init__(self, reasons: Sequence[tuple[str, Mapping[str, object] | None] | None]) -> None:
        super().__init__(tuple(reasons))
        self.reasons = tuple(reasons)

    @property
    def condition_failed(self) -> bool:
        """Whether the condition of an action failed. If no condition failed, the same transaction may be sent again."""
        return any(reason is not None and reason[0] == "ConditionalCheckFailed" for reason in self.reasons)

    @property
    def throttled(self) -> bool:
        """Whether a table throttled at least one action of the transaction."""
        return any(reason is not None and reason[0] in _THROTTLES for reason in self.reasons)


class ItemTooLargeError(MeteringError):
    """An item exceeds 400 KB, or the items of a transaction together exceed 4 MB. Nothing was written.

    Attributes:
        what: The key of the item, or `a transaction of n actions`.
        detail: Size of the item, or DynamoDB's own message.
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
    """The object at `key` exists, but the store denies access to it.

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
    """The object at `key` is not the expected version, because its ETag differs."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class BatchRefusedError(MeteringError):
    """A whole batch is refused permanently.

    Attributes:
        problems: Every problem found, as `(reason, detail)`; the reason of the first problem is the batch's reason.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    @property
    def reason(self) -> str:
        return self.problems[0][0]


class LogFileRefusedError(MeteringError):
    """A log file as a whole cannot be metered.

    Attributes:
        reason: A stable name, one of the reasons in `metering.onramps.reasons`.
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
    """Work that ended early without an error. The caller that started the work catches this error."""


class FormatTooNewError(MeteringError):
    """The ledger has a format that this code does not support, so this code must not access the ledger at all.

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
    """The ledger has an older format than that with which this code works.

    Attributes:
        found: The ledger's format.
        known: The format with which this code works.
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
    """The ledger and the usage table do not match, so kind numbers in usage items could mean wrong kinds (P41)."""


class OperationFailedError(MeteringError):
    """An operation requested by a person was refused or failed.

    Attributes:
        reason: One sentence that states why.
        advice: What the user should do next, or the effect of a repeated call; may be empty.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason, advice)
        self.reason = reason
        self.advice = advice
        # If a Python program does not catch the exception, the traceback shows this advice below the reason.
        if advice:
            self.add_note(advice)

    def __str__(self) -> str:
        return self.reason


class SettingsError(MeteringError):
    """Settings contradict each other.

    Attributes:
        problems: Every problem found, one sentence per problem.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)
