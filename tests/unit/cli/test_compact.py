"""What `metering compact` does before it compacts."""

from __future__ import annotations

import pytest

from metering.cli.commands.analyst.lake import compact_now
from metering.cli.failures import CommandFailedError
from metering.errors import UnavailableError
from metering.stores.bucket import wal_key
from tests.support.small_world import SmallWorld, deliveries


@pytest.fixture
def world() -> SmallWorld:
    """A world with one wide commit that is open, and whose rows are not due."""
    world = SmallWorld()
    world.calls.before = dict.fromkeys(range(4, 100), UnavailableError("dynamodb.TransactWriteItems", "timeout"))
    world.handle(*deliveries(20, keys=16))
    world.calls.before.clear()
    assert [commit.state for commit in world.commits()] == ["open"]
    return world


def test_open_commits_are_finished_also_if_their_rows_are_not_due(world: SmallWorld) -> None:
    assert compact_now(world.parts().jobs(), due=True).rows == 0
    assert [commit.state for commit in world.commits()] == ["applied"]
    world.assert_exact()


def test_a_commit_that_cannot_be_finished_is_named_and_the_command_fails(world: SmallWorld) -> None:
    [commit] = world.commits()
    world.objects.remove(wal_key(commit.staging_key))
    with pytest.raises(CommandFailedError, match=commit.commit_id):
        compact_now(world.parts().jobs(), due=True)
