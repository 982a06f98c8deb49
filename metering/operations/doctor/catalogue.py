"""All checks, in the order in which they are worth knowing on the first day in an account."""

from __future__ import annotations

from metering.operations.doctor import operating, queues, storage, tables
from metering.operations.doctor.checks import Check

CHECKS: tuple[Check, ...] = (
    Check(name="missing-key", question="Is a missing key 404 to each role?", look=storage.missing_key),
    Check(name="large-put", question="Does an upload in parts keep to its condition?", look=storage.large_put),
    Check(name="cancel-reasons", question="Does a canceled transaction say why?", look=tables.cancel_reasons),
    Check(name="racing", question="What do two transactions say that meet?", look=tables.racing),
    Check(name="throttle", question="What does a throttle look like?", thorough=True, look=tables.throttled),
    Check(name="warm-tables", question="Do the tables take the stage's peak at once?", look=tables.warm),
    Check(name="table-quota", question="May a table take the stage's peak?", look=tables.table_quota),
    Check(name="mapping-fill", question="How full are the mapping's batches?", thorough=True, look=queues.mapping_fill),
    Check(name="dropped-object", question="Does an object below drop/ become a batch?", look=storage.dropped_object),
    Check(name="scratch-left", question="Is the disk free after a run that was stopped?", look=operating.scratch_left),
    Check(name="tombstones", question="Does a listing end behind deleted objects?", look=storage.tombstones),
    Check(name="athena", question="Does Athena read what the service wrote?", look=operating.engine_agrees),
    Check(name="receives", question="Does a message say how often it was received?", look=queues.receives),
    Check(name="redrive", question="Is a redriven message sent anew?", look=queues.redriven),
    Check(name="cold-starts", question="Does each function start in time?", look=operating.cold_starts),
    Check(name="alarm", question="Does an alarm arrive?", thorough=True, look=operating.alarm_arrives),
    Check(name="region-built", question="Was a region built without people?", look=operating.region_built),
)  # fmt: skip
