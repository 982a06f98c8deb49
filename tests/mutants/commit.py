"""Seeded bugs of the worker's throttling and packing (docs/protocol.md, P14 and P17)."""

from __future__ import annotations

from tests.mutants.mutant import seeded

_THROTTLES = ("tests/unit/commit/test_throttles.py",)
_PACKING = ("tests/unit/commit/test_packing.py",)
_HANDLER = ("tests/unit/lambdas/test_queue_handlers.py",)

COMMIT = (
    *seeded("metering/commit/committer.py", _THROTTLES,
        ("P17 a throttled commit is halved",
         "            return _Reply.THROTTLED if error.throttled else _Reply.UNKNOWN\n",
         "            return _Reply.UNKNOWN\n"),
        ("P17 a call that is throttled as a whole is taken for an unknown outcome",
         "        except ThrottledError:\n            return _Reply.THROTTLED\n", ""),
        ("P17 new objects while the table is short of writes",
         "        if self._throttles.pausing:\n            # While", "        if False:\n            # While"),
        ("P17 a throttled commit is sent again without a pause", "if body is None or self._throttles.pausing:",
         "if body is None:"),
    ),
    *seeded("metering/errors.py", _THROTTLES,
        ("P17 a conflict is taken for a throttle", "reason is not None and reason[0] in _THROTTLES for",
         'reason is not None and reason[0] != "ConditionalCheckFailed" for'),
    ),
    *seeded("metering/commit/throttling.py", _THROTTLES,
        ("P17 a throttled commit is thrown away", "        self._body = self._body or body\n",
         "        self._body = None\n"),
        ("P17 the receives of a message end within half an hour", "_HIDDEN_S = ((90, 180), (300, 420), (390, 420))",
         "_HIDDEN_S = ((90, 180), (120, 420), (120, 420))"),
    ),
    *seeded("metering/commit/aggregator.py", _THROTTLES,
        ("P17 throttled messages come back at once",
         "hide_s=self._hidden(deliveries, retry) if invocation.tally.throttled else {}", "hide_s={}"),
    ),
    *seeded("lambdas/aggregator/handler.py", _HANDLER,
        ("P17 a message is hidden for longer than its queue hides it", "min(seconds, longest_s)", "seconds"),
    ),
    *seeded("metering/commit/transaction.py", _PACKING,
        ("P14 ended months take no place in a transaction", "or _OWN_ACTIONS + months + actions > budget.actions",
         "or _OWN_ACTIONS + actions > budget.actions"),
        ("P14 the size of items is not asked",
         "            or item_bytes + 2 * len(hours) * _HOUR_BYTES > budget.items_bytes\n", ""),
    ),
    *seeded("metering/commit/transaction.py", _THROTTLES,
        ("P16 sent_at of a commit is that of its last message",
         "return min(copy.delivery.sent_at_ms for copy in self.content.copies)",
         "return max(copy.delivery.sent_at_ms for copy in self.content.copies)"),
    ),
)  # fmt: skip
