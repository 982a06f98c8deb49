"""Every error that the project raises on purpose.

    MeteringError
    ├── UnavailableError            transient: a dependency throttled, conflicted or gave no answer  (retryable)
    ├── ConditionFailedError        a conditional write found another state; carries the item found
    ├── TransactionCanceledError    a transaction was not applied; carries one reason an action
    ├── ItemTooLargeError           an item is larger than DynamoDB takes
    ├── ObjectMissingError          no such object
    ├── ObjectDamagedError          an object is there and cannot be decoded
    ├── ObjectChangedError          an object is not the one that was announced (If-Match failed)
    ├── BatchRefusedError           a whole batch is refused; carries every problem found
    ├── LedgerCorruptError          the ledger or an object contradicts the protocol: stop and alarm
    ├── SettingsError               settings do not fit together; carries every problem found
    ├── PeriodNotClosableError      a month cannot be closed now                              usecases.period
    └── OperationFailedError        an operation of people was refused or failed; says why, and what to do
        ├── ManifestError           a file that is no manifest                                usecases.manifest
        ├── PreflightFailedError    a region lacks what the service cannot do without         usecases.region_steps
        ├── InputError              a file without records that a replay can send             adapters.traffic.given
        ├── QueryError              a query that DuckDB refuses                               adapters.lake.query
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
    """An item was not written: it is larger than the 400 KB that DynamoDB takes.

    Attributes:
        what: Its key.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} is larger than an item may be"


class ObjectMissingError(MeteringError):
    """There is no object at `key`."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"there is no object {self.key}"


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
