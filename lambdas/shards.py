"""Events of functions that run once for each shard: `{"shard": 0}`."""

from __future__ import annotations

from collections.abc import Mapping


def shard_of_event(event: Mapping[str, object]) -> int | None:
    """Return the shard in an event; None if the event has none, as when a person or a deployment invokes the function.

    Raises:
        ValueError: The event names an invalid shard.
    """
    shard = event.get("shard")
    if shard is None:
        return None
    # Not isinstance: True is an int.
    if type(shard) is not int or shard < 0:
        raise ValueError(f"no shard: {shard!r}")
    return shard
