"""The write-ahead object of a wide commit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering.commit.write_ahead import UsageDelta, WriteAhead

from metering.errors import LedgerCorruptError
from metering.ledger.booked_hours import Pointer
from metering.stores.writes import MAX_TRANSACTION_ACTIONS, Key
from metering.units import HOUR_S
from metering.usage.totals import Total


def _write_ahead(pointers: int, deltas: int, size: int = 1) -> WriteAhead:
    return WriteAhead(
        commit_id="c",
        pointers=tuple(
            Pointer(hour_s=index * HOUR_S, commit_id="c", shard=0, rows=1, bytes=size, staging_key="s")
            for index in range(pointers)
        ),
        deltas=tuple(
            UsageDelta(key=Key("A#1#2026-11", str(index)), hours={0: Total(size, 1), HOUR_S: Total(index, 2)})
            for index in range(deltas)
        ),
    )


@given(pointers=st.integers(0, 250), deltas=st.integers(1, 400))
def test_chunks_hold_every_action_once_pointers_first(pointers: int, deltas: int) -> None:
    ahead = _write_ahead(pointers, deltas)
    chunks = [ahead.chunk(number) for number in range(ahead.chunks)]
    expected = [*(pointer.key for pointer in ahead.pointers), *(delta.key for delta in ahead.deltas)]
    assert [action.key for chunk in chunks for action in chunk] == expected
    assert all(1 <= len(chunk) <= MAX_TRANSACTION_ACTIONS - 1 for chunk in chunks)


@given(pointers=st.integers(0, 30), deltas=st.integers(1, 30), chunk_actions=st.integers(1, 20))
def test_chunks_are_as_small_as_the_limit_asks_for_and_hold_everything(
    pointers: int, deltas: int, chunk_actions: int
) -> None:
    whole = _write_ahead(pointers, deltas)
    small = WriteAhead.decode(whole.encode(), chunk_actions=chunk_actions)
    chunks = [small.chunk(number) for number in range(small.chunks)]
    assert [len(chunk) for chunk in chunks[:-1]] == [chunk_actions] * (small.chunks - 1)
    assert 1 <= len(chunks[-1]) <= chunk_actions
    assert [action for chunk in chunks for action in chunk] == whole.chunk(0)


@given(pointers=st.integers(0, 3), deltas=st.integers(1, 3), size=st.integers(0, 10**30))
def test_what_is_decoded_is_what_was_encoded(pointers: int, deltas: int, size: int) -> None:
    ahead = _write_ahead(pointers, deltas, size)
    assert WriteAhead.decode(ahead.encode()) == ahead


def test_byte_sums_are_strings_because_other_readers_lose_digits() -> None:
    assert b'"9223372036854775808"' in _write_ahead(0, 1, 2**63).encode()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"schema":"metering.wal/2"}', b'{"schema":"metering.wal/1"}'])
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(LedgerCorruptError):
        WriteAhead.decode(body)
