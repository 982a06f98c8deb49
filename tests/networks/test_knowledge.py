"""With any knowledge beside the logs, no byte is classified wrongly: bytes that cannot be known are unclassified.

`python -m tests.networks` tests many more combinations.
"""

from __future__ import annotations

from functools import cache

import pytest

from metering.onramps.context.store import Timeline
from metering.onramps.reasons import Classified, Processed, Traffic
from metering.units import HOUR_S, MINUTE_S
from tests.networks.exam import ATTRIBUTES, Exam, Marks, Question, context_timeline, exam, lacking_one, layers
from tests.support.networks.billing import PEERING_APART_FROM_S
from tests.support.networks.flow_logs import RECOMMENDED

STYLES = ("v11", "v5", "v2")


@cache
def asked(style: str) -> Exam:
    return exam(style)


def checked(name: str, marks: Marks) -> Marks:
    print(f"{name:<60} {marks.share:6.2f} % unclassified")
    assert not marks.faults, f"{name}: {marks.told()}"
    assert sum(marks.reasons.values()) + marks.refused == marks.bytes - marks.classified
    return marks


@pytest.mark.parametrize("style", STYLES)
def test_nothing_is_wrong_with_all_nothing_and_each_single_piece_of_the_inventory_missing(style: str) -> None:
    shares = {}
    for name, timeline in layers(asked(style).description):
        shares[name] = checked(f"{style}, {name}", asked(style).marks(timeline)).share
    assert shares["all known"] == min(shares.values())
    assert shares["nothing known"] == max(shares.values())


def test_with_the_whole_inventory_version_11_classifies_all_that_can_be_known() -> None:
    marks = asked("v11").marks(context_timeline(asked("v11").description))
    # A log sometimes omits the next hop. Without the next hop, a transit gateway looks like other routes.
    assert 100 * sum(marks.knowable.values()) < marks.bytes, marks.knowable


@pytest.mark.parametrize("style", STYLES)
def test_with_the_whole_inventory_all_processing_is_metered_that_the_fields_tell(style: str) -> None:
    marks = asked(style).marks(context_timeline(asked(style).description))
    assert not marks.unprocessed
    assert {leg.partition(":")[0] for leg in marks.processed} >= {"nat", "carrier nat", "interface endpoint"}


def test_version_11_alone_tells_the_processing_of_nat_gateways_with_private_addresses() -> None:
    processed = {leg.partition(":")[0] for leg in asked("v11").marks(Timeline()).processed}
    assert processed >= {"nat", "regional nat", "central egress"}
    assert "interface endpoint" not in processed


def test_what_nobody_asked_for_at_a_nat_gateway_is_transfer_and_no_processing() -> None:
    unasked = exam("v5", journeys=("unasked at nat",))
    marks = checked("unasked", unasked.marks(context_timeline(unasked.description)))
    assert marks.classified
    assert not marks.processed


@pytest.mark.parametrize("changes", [{"usage_type": "USW2-NatGateway-Byte"}, {"account_id": "999999999999"}])
def test_the_exam_notices_wrong_processing_and_processing_of_the_public_side(changes: dict[str, str]) -> None:
    at_gateway = [each for each in asked("v11").questions if each.movement.leg.startswith("nat: nat gateway")]
    private, public = (
        next(each for each in at_gateway if bool(each.movement.processing) is private) for private in (True, False)
    )
    right = Traffic(private.movement.account_id, "AmazonEC2", "i-1", "out", "us-west-2", "us-west-2")
    right = right._replace(usage_type=private.movement.processing)
    assert not _marked(private, {}, Processed(right, "a rule")).faults
    for question, processed in ((private, right._replace(**changes)), (public, right)):
        assert "processing" in {each.why for each in _marked(question, {}, Processed(processed, "a rule")).faults}


@pytest.mark.parametrize("style", STYLES)
def test_nothing_is_wrong_when_one_gateway_or_subnet_came_after_the_capture(style: str) -> None:
    for number, (name, timeline) in enumerate(lacking_one(asked(style))):
        if number % 4 == STYLES.index(style):
            checked(f"{style}, {name}", asked(style).marks(timeline))


@pytest.mark.parametrize("missing", ATTRIBUTES)
def test_nothing_is_wrong_without_one_field_of_version_11_with_and_without_an_inventory(missing: str) -> None:
    less = asked("v11").forgetting(missing)
    checked(f"v11 without {missing}, all known", less.marks(context_timeline(less.description)))
    checked(f"v11 without {missing}, nothing known", less.marks(Timeline()))


def test_a_log_without_a_field_is_judged_like_one_whose_field_is_forgotten() -> None:
    gone = "traffic-path"
    read = exam("v11", fields=tuple(name for name in RECOMMENDED if name != gone))
    known = context_timeline(read.description)
    one, other = (checked(gone, each.marks(known)) for each in (read, asked("v11").forgetting(gone)))
    assert (one.classified, one.reasons) == (other.classified, other.reasons)


def test_peering_between_zones_is_booked_as_aws_bills_it_before_and_after_april_2025() -> None:
    crossing = exam("v11", first_s=PEERING_APART_FROM_S - MINUTE_S, journeys=("peering", "peering ipv6"), variety=20)
    hours = {each.hour_s for question in crossing.questions for each in question.observations}
    assert hours == {PEERING_APART_FROM_S - HOUR_S, PEERING_APART_FROM_S}
    marks = checked("peering around April 2025", crossing.marks(context_timeline(crossing.description)))
    assert marks.classified


def test_every_field_that_a_log_can_do_without_is_taken_away() -> None:
    needed = {"version", "account-id", "interface-id", "srcaddr", "dstaddr", "bytes", "start", "end", "action"}
    assert set(ATTRIBUTES) == set(RECOMMENDED) - needed - {"log-status"}


@pytest.mark.parametrize(("fault", "changes"), [
    ("account", {"account_id": "999999999999"}),
    ("direction", {"direction": "in"}),
    ("usage type", {"usage_type": "USW2-DataTransfer-Out-Bytes"}),
    ("other side", {"to_location": "internet"}),
    ("own side", {"from_location": "us-west-2/usw2-az9"}),
])  # fmt: skip
def test_the_exam_notices_every_kind_of_wrong_verdict(fault: str, changes: dict[str, str]) -> None:
    question = next(each for each in asked("v11").questions if each.movement.leg.startswith("service across zones"))
    assert not _marked(question, {}).faults
    assert fault in {each.why for each in _marked(question, changes).faults}


def test_the_exam_notices_a_guess_a_missing_reason_and_a_line_that_is_not_metered() -> None:
    question = next(each for each in asked("v11").questions if "*" in each.movement.hidden)
    assert "a guess" in {each.why for each in _marked(question, {}).faults}
    question = next(each for each in asked("v11").questions if not each.movement.hidden)
    unclassified = _marked(question, {"usage_type": "USW2-Unclassified-Regional-Bytes"})
    assert {each.why for each in unclassified.faults} >= {"a reason if and only if it is unclassified"}
    marks = Marks()
    marks.add(question, 1, None, "")  # type: ignore[arg-type]  # whatever is no verdict
    assert [each.why for each in marks.faults] == ["not metered"]


def _marked(question: Question, changes: dict[str, str], processed: Processed | None = None) -> Marks:
    """Marks for a line whose outcome is the true outcome with these `changes`."""
    truth = {name: getattr(question.movement, name) for name in Traffic._fields} | {"resource_id": "i-1"}
    traffic = Traffic(**truth | changes)
    marks = Marks()
    marks.add(question, 1, Classified(traffic, "a rule", processed=processed), traffic.usage_type)
    return marks
