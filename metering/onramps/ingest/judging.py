"""Judging of subjects: each distinct one of an hour once, by the rules of its kind and those of the contract."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from metering.intake.record_rules import resource_problems, traffic_of
from metering.onramps.reasons import LineReason
from metering.onramps.traffic import Classified, Refused

if TYPE_CHECKING:
    from metering.onramps.bills import Billable
    from metering.onramps.traffic import Classifier, Outcome, Traffic


class Verdict(NamedTuple):
    """What becomes of a subject.

    Attributes:
        outcome: What the rules make of it.
        usage_type: Usage type that the service books it under; empty if it is not metered.
        other: Whether it is of another account than the file's name states.
    """

    outcome: Outcome
    usage_type: str = ""
    other: bool = False


class Judge:
    """Remembers verdicts, so that a subject that comes in many blocks is judged once.

    Args:
        classifier: The rules of the file's kind.
        billable: Says whom the lines may bill.
        max_remembered: Most verdicts that are remembered, about 60 MB; then all are forgotten, which costs time only.
    """

    def __init__(self, classifier: Classifier[object], billable: Billable, *, max_remembered: int = 100_000) -> None:
        self._classifier = classifier
        self._billable = billable
        self._max_remembered = max_remembered
        self._verdicts: dict[tuple[object, int], Verdict] = {}

    def verdict(self, subject: object, hour_s: int) -> Verdict:
        """Judge a subject in an hour."""
        key = (subject, hour_s)
        known = self._verdicts.get(key)
        if known is None:
            if len(self._verdicts) >= self._max_remembered:
                self._verdicts.clear()
            known = self._verdicts[key] = self._judged(self._classifier.outcome(subject, hour_s), hour_s)
        return known

    def _judged(self, outcome: Outcome, hour_s: int) -> Verdict:
        if not isinstance(outcome, Classified):
            # The detail of a refusal may name the subject, and the sums are by reason.
            return Verdict(outcome)
        other = self._billable.is_other(outcome.traffic.account_id)
        refused = self._billable.refused(outcome, hour_s)
        verdict = Verdict(refused) if refused is not None else _as_the_service_judges(outcome, outcome.traffic)
        return verdict._replace(other=other)


# Records of a file differ by their resources most, and the contract judges the rest alike.
_traffic_of = lru_cache(maxsize=10_000)(traffic_of)


def _as_the_service_judges(outcome: Classified, traffic: Traffic) -> Verdict:
    """The verdict of the contract, so that no record is sent that the service would refuse."""
    account_id, service, resource_id, direction, from_location, to_location, usage_type = traffic
    judged = _traffic_of((account_id, service, direction, from_location, to_location, usage_type or None))
    problems = [*judged.problems, *resource_problems(resource_id)]
    if not problems:
        return Verdict(outcome, judged.usage_type)
    reason, detail = problems[0]
    own = LineReason.INVALID_ACCOUNT if reason == "invalid_account_id" else LineReason.INVALID_VALUE
    return Verdict(Refused(own, f"{reason}: {detail}"))
