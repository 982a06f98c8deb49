"""Names of the service's counters: one an outcome. Alarms, dashboards and the code that counts share them."""

from __future__ import annotations

from typing import Final

NAMESPACE: Final = "Metering"
"""CloudWatch namespace of the counters."""

# Batches by verdict. Every copy that was delivered is counted once when it gets its verdict.
BATCHES_ACCEPTED: Final = "BatchesAccepted"
BATCHES_DUPLICATE: Final = "BatchesDuplicate"
BATCHES_CONFLICT: Final = "BatchesConflict"
BATCHES_REJECTED: Final = "BatchesRejected"
# Dimension `reason`: the first reason of a rejected batch.
REJECTED_BY_REASON: Final = "RejectedByReason"
# Conflicts whose two contents came from different senders.
SENDER_CONFLICTS: Final = "SenderConflicts"
# Duplicates of a rebuilt marker, whose content hash nobody knows.
DUPLICATES_UNVERIFIED: Final = "DuplicatesUnverified"
# Messages that are no batch (`s3:TestEvent`).
MESSAGES_WITHOUT_BATCH: Final = "MessagesWithoutBatch"
# Messages given back to the queue.
MESSAGES_PUT_BACK: Final = "MessagesPutBack"
# Messages whose reader failed in a way that nobody foresaw; dimension `error`: the class of it. They go back alone.
READERS_FAILED: Final = "ReadersFailed"

RECORDS_METERED: Final = "RecordsMetered"
RECORDS_REFUSED: Final = "RecordsRefused"
# Dimension `reason`: the first reason of a refused record.
REFUSED_BY_REASON: Final = "RefusedByReason"
BYTES_METERED: Final = "BytesMetered"
# Records whose metered region has no billing prefix that we know: metered under the region's own name.
UNKNOWN_REGIONS: Final = "UnknownRegions"

COMMITS_NARROW: Final = "CommitsNarrow"
COMMITS_WIDE: Final = "CommitsWide"
# Transactions sent again, unchanged, after a conflict, a throttle or a lost reply.
TRANSACTIONS_REPEATED: Final = "TransactionsRepeated"
# Commits begun anew under another id: smaller, or without batches that had their verdict.
COMMITS_REPLANNED: Final = "CommitsReplanned"
# Commits that found one of their months closed and were booked in the current hour.
COMMITS_REBOOKED: Final = "CommitsRebooked"
# Wide commits whose chunks the worker could not all apply: the sweep goes on with them.
COMMITS_LEFT_OPEN: Final = "CommitsLeftOpen"
# Wide commits that another process finished.
COMMITS_FINISHED_LATE: Final = "CommitsFinishedLate"
# The ledger contradicts the protocol: somebody has to look.
LEDGER_CORRUPT: Final = "LedgerCorrupt"
# Alerts that the topic did not take.
ALERTS_LOST: Final = "AlertsLost"
# Messages received three times or more that could not be noted before they were handled.
HELD_NOTES_LOST: Final = "HeldNotesLost"

# Canary runs by verdict; a run that is still `sent` was cut short by its deadline.
CANARY_SENT: Final = "CanarySent"
CANARY_GOOD: Final = "CanaryGood"
CANARY_LATE: Final = "CanaryLate"
CANARY_DOUBLED: Final = "CanaryDoubled"
