"""What a resource is asked, and what it replies: the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.api.grants import EVERYONE, Grant, Role, effective_accounts
from metering.wiring.answers.completeness import in_short, stored_completeness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.api.parameters import Given, Parameter
    from metering.api.parts import ApiParts
    from metering.api.request_log import RequestFigures
    from metering.audit.held_back import Complete
    from metering.reports.answer import Answer, Json
    from metering.wiring.answers.ports import ReadableRegion


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that may be answered: who asks, and for what.

    Attributes:
        given: Values of the parameters, as they are declared.
        now_s: The time now, epoch seconds; one for the whole request.
        figures: A resource adds what it cost.
    """

    parts: ApiParts
    grant: Grant
    given: Given
    now_s: int
    figures: RequestFigures

    def accounts(self, parameter: str = "account") -> frozenset[str]:
        """The accounts that this request reads; empty means all.

        Raises:
            ProblemError: 403, if one of them is not granted.
        """
        return effective_accounts(self.grant, self.given.names(parameter), parameter=parameter)

    @property
    def complete(self) -> Complete:
        """Up to when the counts are complete, in the words that the asker may hear. Find it before the figures."""
        return self.complete_of(self.parts.regions)

    def complete_of(self, regions: Sequence[ReadableRegion]) -> Complete:
        """The same of some regions."""
        known = stored_completeness(regions)
        return known if self.sees_all else in_short(known)

    @property
    def sees_all(self) -> bool:
        """Whether the asker sees every account."""
        return self.grant.accounts is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a resource replies.

    Attributes:
        answer: The command line's answer. `as_of` and `complete_through` of its `meta` become headers, too.
        next: Cursor of the next page; None if there is none, or the answer has no pages.
        paged: The answer is a page, so that its JSON has `next`.
        final: Nothing can change it any more: all of its months are closed.
        kept_s: How long the asker may keep an answer that is not final; 0: not at all.
    """

    answer: Answer
    next: str | None = None
    paged: bool = False
    final: bool = False
    kept_s: int = 30


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource: its declaration in the document, who may ask, and how it is answered.

    Attributes:
        path: Such as `/v1/hours/{hour}`.
        name: Name of the operation in the document, and of files that its answer is saved as.
        about: What it answers, one or two sentences.
        answer: Answers a request. It runs in a thread, so that it may wait.
        parameters: All that its URL may have.
        roles: Who may ask; the document says so.
        public: Anyone may ask, without a token.
        schema: JSON Schema of its JSON.
    """

    path: str
    name: str
    about: str
    answer: Callable[[Asked], Reply]
    parameters: tuple[Parameter, ...] = ()
    roles: frozenset[Role] = EVERYONE
    public: bool = False
    schema: Mapping[str, Json] = field(default_factory=lambda: {"type": "object"})
