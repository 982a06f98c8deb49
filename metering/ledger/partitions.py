"""Partitions of the ledger. Grants on a part of the table name these prefixes.

| partition       | items in it                                           | modules                           |
|-----------------|-------------------------------------------------------|-----------------------------------|
| `B#<batch_id>`  | a batch's marker, conflicts, aliases (`A#`), retries  | `markers`, `conflicts`, `retries` |
| `C#<commit_id>` | a commit                                              | `commits`                         |
| `P#<shard>`     | pending commits of a shard                            | `booked_hours`                    |
| `H#<hour>`      | published files of an hour, pointers to staging rows  | `booked_hours`                    |
| `R#<shard>`     | runs of a shard                                       | `runs`                            |
| `T#<month>`     | a billing month that is closing or closed             | `periods`                         |
| `S#shards`      | the largest number of shards in use so far            | `shards`                          |
| `S#format`      | the format of the region's data                       | `format_version`                  |
| `W#<kind>`      | notes that jobs keep for themselves and for alarms    | `notes`                           |
"""

from __future__ import annotations

BATCH = "B#"
COMMIT = "C#"
PENDING = "P#"
HOUR = "H#"
RUN = "R#"
MONTH = "T#"
NOTE = "W#"
