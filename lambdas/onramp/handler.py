"""Handles an SQS event that contains notifications of new log files, and answers with a partial batch response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.log import function_logger
from lambdas.sqs import PartialBatchResponse, SqsEvent, SqsRecord, all_back
from lambdas.start import Started, starting
from metering.errors import UnavailableError
from metering.intake.batches import NoBatch
from metering.intake.envelopes import CreatedObject, read_announcements
from metering.metric_names import (
    LOG_EVENTS_PUT_BACK,
    LOG_EVENTS_WITHOUT_FILE,
    LOG_FILES_CONFLICT,
    LOG_FILES_EMPTY,
    LOG_FILES_METERED,
    LOG_FILES_REFUSED,
    LOG_FILES_REPEATED,
    LOG_FILES_VANISHED,
    LOG_LINES_OF_OTHERS,
)
from metering.wiring.onramps import OnrampParts, build_arrivals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.adapters.aws.runtime import LambdaContext
    from metering.onramps.arrivals import Arrival, Arrivals, ArrivalVerdict

_COUNTERS: Mapping[ArrivalVerdict, str] = {
    "metered": LOG_FILES_METERED,
    "repeated": LOG_FILES_REPEATED,
    "conflict": LOG_FILES_CONFLICT,
    "refused": LOG_FILES_REFUSED,
    "empty": LOG_FILES_EMPTY,
    "vanished": LOG_FILES_VANISHED,
}

SERVICE = "onramp"
dependencies = starting(SERVICE, OnrampParts, lambda parts, _: build_arrivals(parts))


def handler(event: SqsEvent, context: LambdaContext) -> PartialBatchResponse:
    """Meter the log files that the messages of one invocation announce."""
    try:
        parts = dependencies()
    except UnavailableError as error:
        # A new process first reads the ledger's format. If the ledger does not answer, all events return to the queue.
        function_logger(SERVICE).warning("the ledger gives no answer", extra={"error": str(error)})
        return all_back(event)
    return handle(event, context, parts)


def handle(event: SqsEvent, context: LambdaContext, parts: Started[Arrivals]) -> PartialBatchResponse:
    """Do the work of `handler` with injected dependencies; tests call this function."""
    began_ms = context.get_remaining_time_in_millis()
    put_back: list[str] = []
    verdicts: dict[str, int] = {}
    try:
        for record in event["Records"]:
            try:
                for arrival in _taken(record, parts):
                    verdicts[arrival.verdict] = verdicts.get(arrival.verdict, 0) + 1
            except UnavailableError as error:
                put_back.append(record["messageId"])
                parts.metrics.count(LOG_EVENTS_PUT_BACK)
                parts.logger.warning("taken again later", extra={"error": str(error)})
    finally:
        parts.metrics.flush()
    parts.logger.info(
        "log files taken",
        extra={
            "events": len(event["Records"]),
            "put_back": len(put_back),
            "verdicts": verdicts,
            "elapsed_ms": began_ms - context.get_remaining_time_in_millis(),
        },
    )
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in put_back]}


def _taken(record: SqsRecord, parts: Started[Arrivals]) -> list[Arrival]:
    """Process all files in a message. If one must be retried, all are harmlessly processed again."""
    arrivals: list[Arrival] = []
    for found in read_announcements(record["body"]):
        if isinstance(found, NoBatch):
            parts.metrics.count(LOG_EVENTS_WITHOUT_FILE)
            continue
        if isinstance(found, CreatedObject):
            arrival = parts.work.take(found)
        else:
            arrival = parts.work.refuse(f"message {record['messageId']}", ": ".join(found))
        arrivals.append(arrival)
        _tell(arrival, parts)
    return arrivals


def _tell(arrival: Arrival, parts: Started[Arrivals]) -> None:
    reasons = {"reason": arrival.reason} if arrival.verdict == "refused" else {}
    parts.metrics.count(_COUNTERS[arrival.verdict], 1, **reasons)
    if arrival.deprecated:
        parts.logger.warning("setting ends", extra={"log_source": arrival.source, "detail": arrival.deprecated})
    if arrival.others.lines:
        _tell_others(arrival, parts)
    if arrival.reason:
        told = {"place": arrival.place, "log_source": arrival.source, "detail": arrival.detail}
        parts.logger.warning("log file not metered", extra={"verdict": arrival.verdict, **reasons, **told})


def _tell_others(arrival: Arrival, parts: Started[Arrivals]) -> None:
    """Report log lines of accounts other than the file's. An already metered file is not reported again."""
    others = arrival.others
    if arrival.verdict in ("metered", "empty"):
        parts.metrics.count(LOG_LINES_OF_OTHERS, others.lines)
    told = {"lines": others.lines, "bytes": others.bytes, "billed_lines": others.billed_lines}
    parts.logger.warning(
        "lines of other accounts", extra={"place": arrival.place, **told, "billed_bytes": others.billed_bytes}
    )
