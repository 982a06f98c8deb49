"""Every error that the project raises on purpose.

    MeteringError
    ├── UnavailableError            transient: a dependency throttled, conflicted or gave no answer  (retryable)
    │   └── OutOfTimeError          reading took longer than it may here; elsewhere it may be quick enough
    ├── ConditionFailedError        a conditional write found another state; carries the item found
    ├── TransactionCanceledError    a transaction was not applied; carries one reason an action
    ├── ItemTooLargeError           an item, or a transaction, is larger than DynamoDB takes
    ├── ObjectMissingError          no such object
    ├── ObjectUnreadableError       an object is there, and the store will not hand it out
    ├── ObjectDamagedError          an object is there and cannot be decoded
    ├── ObjectChangedError          an object is not the one that was announced (If-Match failed)
    ├── BatchRefusedError           a whole batch is refused; carries every problem found
    ├── LedgerCorruptError          the ledger or an object contradicts the protocol: stop and alarm
    ├── FormatTooNewError           newer code wrote the ledger, and this one must not touch it
    ├── SettingsError               settings do not fit together; carries every problem found
    ├── InvalidParametersError      a report is asked for what does not exist; every problem found   reports.parameters
    ├── PeriodNotClosableError      a month cannot be closed now                              usecases.period
    └── OperationFailedError        an operation of people was refused or failed; says why, and what to do
        ├── ManifestError           a file that is no manifest                                usecases.manifest
        ├── PreflightFailedError    a region lacks what the service cannot do without         usecases.region_steps
        ├── InputError              a file without records that a replay can send             adapters.traffic.given
        ├── SendingFailedError      a replay whose messages were not all taken                adapters.traffic.sender
        ├── QueryError              a query that DuckDB refuses                               adapters.lake.query
        ├── QueryStoppedError       a query that took too long, or too much of the machine    adapters.lake.query
        ├── StoppedError            work that nobody wants any more                           adapters.lake.ahead
        └── CommandFailedError      a command ends with exit code 1                           cli.failures
            └── WrongUsageError     what was asked for makes no sense: exit code 2            cli.failures

Those of one place only live there. Adapters translate what they know into this tree; whatever they do not know passes
through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MeteringError(Exception):
    """Root of the tree. `retryable` says whether the same call may succeed later, unchanged."""

    retryable: ClassVar[bool] = False


class UnavailableError(MeteringError):
    """A dependency gave no usable answer; calling again with the same input is safe and may succeed.

    Attributes:
        operation: The call that failed, as `Service.Operation`.
        may_have_applied: False only if the dependency is known not to have applied it (throttle, conflict).
    """

    retryable = True

    def __init__(self, operation: str, detail: str, *, may_have_applied: bool = True) -> None:
        super().__init__(operation, detail, may_have_applied)
        self.operation = operation
        self.detail = detail
        self.may_have_applied = may_have_applied

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_unavailable, (self.operation, self.detail, self.may_have_applied))

    def __str__(self) -> str:
        return f"{self.operation}: {self.detail}"


class OutOfTimeError(UnavailableError):
    """Reading a delivery took longer than it was allowed."""

    def __init__(self) -> None:
        super().__init__("BatchReader.read", "it took too long", may_have_applied=False)

    def __reduce__(self) -> tuple[object, ...]:
        return (OutOfTimeError, ())


def _rebuild_unavailable(operation: str, detail: str, may_have_applied: bool) -> UnavailableError:
    return UnavailableError(operation, detail, may_have_applied=may_have_applied)


class ConditionFailedError(MeteringError):
    """A conditional write was not applied.

    Attributes:
        existing: The item as it was found, or None if there was none.
    """

    def __init__(self, existing: Mapping[str, object] | None) -> None:
        super().__init__(existing)
        self.existing = existing


class TransactionCanceledError(MeteringError):
    """A transaction was not applied.

    Attributes:
        reasons: One entry an action, in request order; None where that action was no reason. An entry is
            `("ConditionalCheckFailed", item found or None)` or `(another code, None)`.
    """

    def __init__(self, reasons: Sequence[tuple[str, Mapping[str, object] | None] | None]) -> None:
        super().__init__(tuple(reasons))
        self.reasons = tuple(reasons)

    @property
    def condition_failed(self) -> bool:
        """Whether any action's condition was false; otherwise the same transaction may be sent again."""
        return any(reason is not None and reason[0] == "ConditionalCheckFailed" for reason in self.reasons)


class ItemTooLargeError(MeteringError):
    """An item would be larger than 400 KB, or the items of a transaction together than 4 MB; nothing was written.

    Attributes:
        what: The key of the item, or `a transaction of n actions`.
        detail: How large it would be, or what the service said.
    """

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what = what
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.what} is too large: {self.detail}"


class ObjectMissingError(MeteringError):
    """There is no object at `key`."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"there is no object {self.key}"


class ObjectUnreadableError(MeteringError):
    """The object at `key` is there, and the store refuses to hand it out to anybody who asks as we do.

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
    """The object at `key` is not the one that was asked for (its ETag differs)."""

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


class LedgerCorruptError(MeteringError):
    """The ledger or an object contradicts the protocol; nothing may go on from here without a person."""


class FormatTooNewError(MeteringError):
    """The ledger is in a format that this code does not know: it may neither read nor write it.

    Attributes:
        found: The ledger's format.
        known: The newest format that this code knows.
        needed: The version of metering that knows the ledger's format.
    """

    def __init__(self, *, found: int, known: int, needed: str) -> None:
        super().__init__(found, known, needed)
        self.found = found
        self.known = known
        self.needed = needed

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_format_too_new, (self.found, self.known, self.needed))

    def __str__(self) -> str:
        return (
            f"The region's data has format {self.found}, and this version of metering knows formats up to "
            f"{self.known}: use metering {self.needed} or newer."
        )


def _rebuild_format_too_new(found: int, known: int, needed: str) -> FormatTooNewError:
    return FormatTooNewError(found=found, known=known, needed=needed)


class OperationFailedError(MeteringError):
    """An operation that a person asked for was refused or failed.

    Attributes:
        reason: What is wrong, one sentence.
        advice: What to do about it, or what the next run will do; may be empty.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason, advice)
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return self.reason


class SettingsError(MeteringError):
    """Settings that do not fit together.

    Attributes:
        problems: Every problem found, one sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)
