"""Requests and replies, the same for all resources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.api.authentication import EVERYONE, Grant, effective_accounts
from metering.reports.query import ReadBudget, UsageQuery, most_hours, partitions_of
from metering.reports.time_range import InvalidParametersError
from metering.wiring.answers.freshness import in_short, stored_completeness
from metering.wiring.answers.usage import hours_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.api.parameters import Given, Parameter
    from metering.api.parts import ApiParts, Reading
    from metering.audit.freshness import Complete
    from metering.ledger.notes.access import Role
    from metering.reports.answer import Answer, Json
    from metering.wiring.lake import ReadableRegion


KEPT_S = 30
"""How long an answer may be kept that can change at any moment."""
FINAL_S = 86_400
"""How long an answer may be kept that cannot."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An admitted request: the caller's grant, and its parameters.

    Attributes:
        given: Values of the parameters, as they are declared.
        now_s: The time of the whole request, epoch seconds.
        reading: Charges the request's reads, and counts them.
    """

    parts: ApiParts
    grant: Grant
    path: str
    given: Given
    now_s: int
    reading: Reading

    def accounts(self, parameter: str = "account") -> frozenset[str]:
        """The accounts that this request reads; an empty set means all.

        Raises:
            ProblemError: 403, if one of the accounts is not granted.
        """
        return effective_accounts(self.grant, self.given.names(parameter), parameter=parameter)

    @property
    def complete(self) -> Complete:
        """Time up to which counts are complete, in words for the caller. Read it before the figures."""
        return self.complete_of(self.parts.regions)

    def complete_of(self, regions: Sequence[ReadableRegion]) -> Complete:
        """The same for some regions."""
        known = stored_completeness(regions)
        return known if self.sees_all else in_short(known)

    def afford(self, query: UsageQuery, budget: ReadBudget | None = None) -> None:
        """Refuse a question whose answer would exceed its budget, before any read; charge it to the token.

        Raises:
            InvalidParametersError: It would cost more than `budget`, by default the limits' budget.
            ProblemError: 429, the token reads too much.
            UnavailableError: A ledger gives no answer.
        """
        budget, now_s = budget or self.parts.limits, self.now_s
        problems = budget.of_range(query.from_s, query.to_s, now_s=now_s) or budget.of_query(query, now_s=now_s)
        if problems:
            raise InvalidParametersError(problems)
        regions = self.parts.regions
        hours = most_hours(query, now_s=now_s)
        read = hours * len(regions)
        if hours > budget.hours:
            # The number of hours with rows in open months is quick to find: a list of keys, some pages a month.
            self.reading.spend(len(list(query.months(now_s=now_s))))
            found = hours_to_read(regions, query, now_s=now_s)
            # An hour counts once for all regions: else a stage of many would be refused a range that each allows.
            if problems := budget.of_hours(query, len(set(found))):
                raise InvalidParametersError(problems)
            read = len(found)
        self.reading.afford(partitions_of(query, now_s=now_s) * len(regions) + read)

    @property
    def sees_all(self) -> bool:
        return self.grant.accounts is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Reply of a resource.

    Attributes:
        answer: The command line's answer. `as_of` and `complete_through` of its `meta` become headers too.
        next: Cursor of the next page; None if there is none, or the answer has no pages.
        paged: Whether the answer is a page, so that its JSON has `next`.
        kept_s: How long the client may cache the answer; 0: not at all.
    """

    answer: Answer
    next: str | None = None
    paged: bool = False
    kept_s: int = KEPT_S


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource: its declaration in the OpenAPI document, the roles that may ask, and the function that answers.

    Attributes:
        name: Name of the operation in the OpenAPI document, and of files in which its answer is saved.
        about: Description of the answer, one or two sentences.
        answer: Answers a request. It runs in a thread, so it may block.
        final: Names all inputs of an answer if none of them can change any more; None for other answers. It reads much
            less than an answer, so a client that already has this answer costs only this read.
        public: Whether anyone may ask without a token.
        schema: JSON Schema of its JSON.
    """

    path: str
    name: str
    about: str
    answer: Callable[[Asked], Reply]
    final: Callable[[Asked], str | None] = lambda _asked: None
    parameters: tuple[Parameter, ...] = ()
    roles: frozenset[Role] = EVERYONE
    public: bool = False
    schema: Mapping[str, Json] = field(default_factory=lambda: {"type": "object"})
