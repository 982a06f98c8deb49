"""Names of the service's counters, one per outcome. Alarms, dashboards and the counting code share these names."""

from typing import Final

NAMESPACE: Final = "Metering"
"""CloudWatch namespace of the counters."""

# Batches by verdict. Every delivered copy is counted once, when its verdict is known.
BATCHES_ACCEPTED: Final = "BatchesAccepted"
BATCHES_DUPLICATE: Final = "BatchesDuplicate"
BATCHES_CONFLICT: Final = "BatchesConflict"
BATCHES_REJECTED: Final = "BatchesRejected"
# The dimension `reason` is the first reason of a rejected batch.
REJECTED_BY_REASON: Final = "RejectedByReason"
# Conflicts between contents of two different senders.
SENDER_CONFLICTS: Final = "SenderConflicts"
# Batches that their senders are not allowed to send, in a stage with registered producers.
SENDERS_NOT_ALLOWED: Final = "SendersNotAllowed"
# Batches whose id has a marker without content hash: duplicates by their totals, and contents that nobody can compare.
DUPLICATES_UNVERIFIED: Final = "DuplicatesUnverified"
BATCHES_UNVERIFIED: Final = "BatchesUnverified"
# Messages that announce no batch (`s3:TestEvent`).
MESSAGES_WITHOUT_BATCH: Final = "MessagesWithoutBatch"
# Messages that were returned to the queue.
MESSAGES_PUT_BACK: Final = "MessagesPutBack"
# Messages whose reader failed unexpectedly; the dimension `error` is the exception's class. Only they go back.
READERS_FAILED: Final = "ReadersFailed"

RECORDS_METERED: Final = "RecordsMetered"
RECORDS_REFUSED: Final = "RecordsRefused"
# The dimension `reason` is the first reason of a refused record.
REFUSED_BY_REASON: Final = "RefusedByReason"
BYTES_METERED: Final = "BytesMetered"
# Records in a region without a known billing prefix: their usage type has the region's name instead.
UNKNOWN_REGIONS: Final = "UnknownRegions"

COMMITS: Final = "Commits"
# Transactions that were resent unchanged after a conflict, a throttle or a lost reply.
TRANSACTIONS_REPEATED: Final = "TransactionsRepeated"
# Commits that were planned again under another id, either smaller or without batches that already had a verdict.
COMMITS_REPLANNED: Final = "CommitsReplanned"
# Commits with a month that was closed, so that they were booked in the current hour.
COMMITS_REBOOKED: Final = "CommitsRebooked"
# Commits that were throttled, so that all their batches returned to the queue.
COMMITS_THROTTLED: Final = "CommitsThrottled"
# Contradictions between the ledger and the protocol, which a person must examine.
LEDGER_CORRUPT: Final = "LedgerCorrupt"
# Alerts that SNS refused.
ALERTS_LOST: Final = "AlertsLost"
# Messages received three or more times without a note, because it could not be written before their processing.
HELD_NOTES_LOST: Final = "HeldNotesLost"

# Log files by outcome. Every event is counted once, when it has been processed.
LOG_FILES_METERED: Final = "LogFilesMetered"
LOG_FILES_REPEATED: Final = "LogFilesRepeated"
LOG_FILES_CONFLICT: Final = "LogFilesConflict"
LOG_FILES_EMPTY: Final = "LogFilesEmpty"
# Dimension `reason`.
LOG_FILES_REFUSED: Final = "LogFilesRefused"
# Files that were deleted before they were read.
LOG_FILES_VANISHED: Final = "LogFilesVanished"
# Lines with an account other than that of the file's name, billed or refused.
LOG_LINES_OF_OTHERS: Final = "LogLinesOfOthers"
# Events that return to their queue after a transient error.
LOG_EVENTS_PUT_BACK: Final = "LogEventsPutBack"
# Messages that announce no file (`s3:TestEvent`).
LOG_EVENTS_WITHOUT_FILE: Final = "LogEventsWithoutFile"
CONTEXTS_CAPTURED: Final = "ContextsCaptured"

# Commits of finished roll-up runs, and the usage item updates for these commits.
ROLLED_UP_COMMITS: Final = "RolledUpCommits"
ROLLED_UP_ITEMS: Final = "RolledUpItems"
# Runs of the roll-up that another process finished first, and plans for which another process's plan was stored first.
ROLLUP_LATE: Final = "RollupLate"
ROLLUP_RACE_LOST: Final = "RollupRaceLost"
# Usage kinds that have no number in roll-up plans, because their account has reached the cap.
KINDS_BEYOND_CAP: Final = "KindsBeyondCap"

# Rows and files that the compactor published.
COMPACTED_ROWS: Final = "CompactedRows"
COMPACTED_FILES: Final = "CompactedFiles"
# Lake files that the biller counted, budget alerts and unusual days that it found, and messages that SNS accepted.
RATED_FILES: Final = "RatedFiles"
BUDGET_ALERTS_MADE: Final = "BudgetAlertsMade"
BUDGET_ALERTS_SENT: Final = "BudgetAlertsSent"
ANOMALIES_FOUND: Final = "AnomaliesFound"
# Runs that reached their time limit; the next tick continues them.
COMPACTION_LATE: Final = "CompactionLate"
# Plans for which another process's plan of the same run was stored first.
COMPACTION_RACE_LOST: Final = "CompactionRaceLost"
# Commits whose staging objects the cleaner deleted.
CLEANED_COMMITS: Final = "CleanedCommits"
# Objects that the cleaner deleted because their commits never became durable.
ORPHANS_DELETED: Final = "OrphansDeleted"
RECONCILED_HOURS: Final = "ReconciledHours"
# Hours in which two consecutive passes found the same difference.
RECONCILIATION_DIFFERENCES: Final = "ReconciliationDifferencesFound"
USAGE_KEYS_REPAIRED: Final = "UsageKeysRepaired"
MARKERS_REBUILT: Final = "MarkersRebuilt"

# Canary runs by verdict; if a run is still `sent`, its deadline stopped it.
CANARY_SENT: Final = "CanarySent"
CANARY_GOOD: Final = "CanaryGood"
CANARY_LATE: Final = "CanaryLate"
CANARY_DOUBLED: Final = "CanaryDoubled"

# Requests of the HTTP API: their number; 1,000 for each that failed by our fault, else 0; the same for slow requests;
# requests without a known token; partitions of the usage table and hours of the lake that were read.
API_REQUESTS: Final = "ApiRequests"
API_FAILED_PERMILLE: Final = "ApiFailedPermille"
API_SLOW_PERMILLE: Final = "ApiSlowPermille"
API_UNAUTHORIZED: Final = "ApiUnauthorized"
API_READS: Final = "ApiReads"
