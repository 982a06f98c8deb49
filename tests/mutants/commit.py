"""Seeded bugs of the worker's throttles and of its packing (docs/protocol.md, P14 and P17)."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_THROTTLES = ("tests/unit/commit/test_throttles.py",)
_PACKING = ("tests/unit/commit/test_packing.py",)
_HANDLER = ("tests/unit/lambdas/test_aggregator_handler.py",)

COMMIT = (
    Mutant(
        name="P17 a throttled commit is halved",
        path="metering/commit/committer.py",
        old="            return _Reply.THROTTLED if error.throttled else _Reply.UNKNOWN\n",
        new="            return _Reply.UNKNOWN\n",
        suites=_THROTTLES,
    ),
    Mutant(
        name="P17 a call that is throttled as a whole is taken for an unknown outcome",
        path="metering/commit/committer.py",
        old="        except ThrottledError:\n            return _Reply.THROTTLED\n",
        new="",
        suites=_THROTTLES,
    ),
    Mutant(
        name="P17 a conflict is taken for a throttle",
        path="metering/errors.py",
        old="reason is not None and reason[0] in _THROTTLES for",
        new='reason is not None and reason[0] != "ConditionalCheckFailed" for',
        suites=_THROTTLES,
    ),
    Mutant(
        name="P17 new objects while the table is short of writes",
        path="metering/commit/committer.py",
        old="        if self._throttles.pausing:\n            # No object",
        new="        if False:\n            # No object",
        suites=_THROTTLES,
    ),
    Mutant(
        name="P17 a throttled commit is sent again without a pause",
        path="metering/commit/committer.py",
        old="if body is None or self._throttles.pausing:",
        new="if body is None:",
        suites=_THROTTLES,
    ),
    Mutant(
        name="P17 a throttled commit is thrown away",
        path="metering/commit/throttling.py",
        old="        self._body = self._body or body\n",
        new="        self._body = None\n",
        suites=_THROTTLES,
    ),
    Mutant(
        name="P17 throttled messages come back at once",
        path="metering/commit/aggregator.py",
        old="hide_s=self._hidden(deliveries, retry) if invocation.tally.throttled else {}",
        new="hide_s={}",
        suites=_THROTTLES,
    ),
    Mutant(
        name="P17 the receives of a message end within half an hour",
        path="metering/commit/throttling.py",
        old="_HIDDEN_S = ((90, 180), (300, 420), (390, 420))",
        new="_HIDDEN_S = ((90, 180), (120, 420), (120, 420))",
        suites=_THROTTLES,
    ),
    Mutant(
        name="P17 a message is hidden for longer than its queue hides it",
        path="lambdas/aggregator/handler.py",
        old="min(seconds, longest_s)",
        new="seconds",
        suites=_HANDLER,
    ),
    Mutant(
        name="P14 ended months take no place in a transaction",
        path="metering/commit/transaction.py",
        old="or _OWN_ACTIONS + months + actions > budget.actions",
        new="or _OWN_ACTIONS + actions > budget.actions",
        suites=_PACKING,
    ),
    Mutant(
        name="P14 the size of items is not asked",
        path="metering/commit/transaction.py",
        old="            or item_bytes + 2 * len(hours) * _HOUR_BYTES > budget.items_bytes\n",
        new="",
        suites=_PACKING,
    ),
    Mutant(
        name="P16 sent_at of a commit is that of its last message",
        path="metering/commit/transaction.py",
        old="return min(copy.delivery.sent_at_ms for copy in self.content.copies)",
        new="return max(copy.delivery.sent_at_ms for copy in self.content.copies)",
        suites=_THROTTLES,
    ),
)
