"""The matrices select the calls at which a fault makes a difference."""

from tests.integration.bench import worth_trying
from tests.support.wire import Trouble

CALLS = (
    "dynamodb.Query", "s3.PutObject", "dynamodb.TransactWriteItems", "s3.PutObject", "s3.GetObject", "s3.GetObject",
)  # fmt: skip
WRITES = {1, 2, 3}


def test_without_steps_each_write_gets_each_trouble_and_the_first_read_of_an_operation_lost_replies() -> None:
    assert worth_trying(CALLS, Trouble.KILLED_AFTER, every=1) == sorted(WRITES)
    assert worth_trying(CALLS, Trouble.REPLIES_LOST, every=1) == [0, 1, 2, 3, 4]
    assert worth_trying(CALLS, Trouble.CONFLICTED, every=1) == [0, 2]


def test_with_steps_of_two_each_write_gets_every_second_trouble() -> None:
    troubles = [trouble for trouble in Trouble if trouble not in (Trouble.THROTTLED, Trouble.CONFLICTED)]
    tried = {trouble: set(worth_trying(CALLS, trouble, every=2)) for trouble in troubles}
    for write in WRITES:
        assert len([trouble for trouble in troubles if write in tried[trouble]]) >= 2
    for trouble in troubles:
        others = set(worth_trying(CALLS, trouble, every=1)) - tried[trouble]
        assert tried[trouble]
        assert others
