"""Names of the service's counters: one an outcome. Alarms, dashboards and the code that counts share them."""

from __future__ import annotations

from typing import Final

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

# Rows and files that the compactor published.
COMPACTED_ROWS: Final = "CompactedRows"
COMPACTED_FILES: Final = "CompactedFiles"
# Runs that stopped because their time was over; the next tick continues them.
COMPACTION_LATE: Final = "CompactionLate"
# Plans that lost against another process's plan for the same run.
COMPACTION_RACE_LOST: Final = "CompactionRaceLost"
# Commits whose staging objects the cleaner deleted.
CLEANED_COMMITS: Final = "CleanedCommits"
# Objects of commits that never became durable, and that the cleaner deleted.
ORPHANS_DELETED: Final = "OrphansDeleted"
RECONCILED_HOURS: Final = "ReconciledHours"
# Hours in which two passes showed the same difference.
RECONCILIATION_DIFFERENCES: Final = "ReconciliationDifferencesFound"
# Whole scans that took more than their part of a tick.
SCANS_GIVEN_UP: Final = "ScansGivenUp"
USAGE_KEYS_REPAIRED: Final = "UsageKeysRepaired"
MARKERS_REBUILT: Final = "MarkersRebuilt"
# Canary batches by verdict.
CANARY_SENT: Final = "CanarySent"
CANARY_GOOD: Final = "CanaryGood"
CANARY_LATE: Final = "CanaryLate"
CANARY_DOUBLED: Final = "CanaryDoubled"
