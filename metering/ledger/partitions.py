"""Partitions of the ledger. IAM policies for only part of the table name these prefixes.

| partition       | items in it                                           | modules                           |
|-----------------|-------------------------------------------------------|-----------------------------------|
| `B#<batch_id>`  | a batch's marker, conflicts, aliases (`A#`), retries  | `markers`, `retries`              |
| `C#<commit_id>` | a commit                                              | `commits`                         |
| `U#<shard>`     | commits of a shard whose usage waits for its roll-up  | `commits`                         |
| `P#<shard>`     | pending commits of a shard: not compacted yet         | `booked_hours`                    |
| `H#<hour>`      | published files of an hour, pointers to staging rows  | `booked_hours`                    |
| `R#<chain>`     | runs of a chain: `U<shard>` rolls up, `L<shard>` compacts | `runs`                        |
| `D#<account>`   | numbers of an account's kinds of usage, and their names | `usage/kinds`                   |
| `T#<month>`     | a billing month that is closing or closed             | `periods`                         |
| `I#<month>`     | invoices and credit notes that a month books          | `notes/money`                     |
| `K#tokens`      | tokens of the HTTP API: hashes, never secrets         | `notes/access`                    |
| `S#kinds`       | most kinds of an account that get a number            | `usage/kinds`                     |
| `S#shards`      | the largest number of shards in use so far            | `commits`                         |
| `S#format`      | the format of the region's data                       | `format_version`                  |
| `W#<kind>`      | notes that jobs keep for themselves and for alarms    | `notes`                           |
| `W#api-large`   | large requests to the HTTP API that are in work       | `notes/access`                    |
| `W#kinds`       | accounts with kinds of usage beyond the cap           | `usage/kinds`                     |
| `W#budgets`     | budgets that people set: they never expire            | `notes/money`                     |
| `W#budget-alerts`| alerts of budgets, one a period and threshold        | `notes/money`                     |
| `W#reports`     | saved questions that reports are made of: never expire | `notes/saved`                   |
| `W#producers`   | registered producers: they never expire               | `notes/access`                    |
| `W#deed-<month>`| deeds of people, the audit trail: never expires       | `notes/deeds`                     |
| `G`             | in the home region, the states of all regions         | `fleet/regions`                   |
"""

BATCH = "B#"
COMMIT = "C#"
WAITING = "U#"
PENDING = "P#"
HOUR = "H#"
RUN = "R#"
KINDS = "D#"
MONTH = "T#"
INVOICES = "I#"
TOKENS = "K#"
NOTE = "W#"
REGIONS = "G"
