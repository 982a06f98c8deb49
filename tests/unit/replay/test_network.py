"""The small network: its file and its own count agree, although they are made separately."""

from __future__ import annotations

import gzip

from metering.replay.network import LogFile, SmallNetwork, replica

FIRST_S = 1_795_617_000


def made(seed: int = 1) -> LogFile:
    return SmallNetwork(seed, FIRST_S).file(2_000)


def test_a_seed_gives_the_same_file_every_time() -> None:
    assert made() == made()
    assert made(seed=2).body != made().body


def test_the_count_is_what_accepted_lines_add_up_to() -> None:
    header, *lines = gzip.decompress(made().body).decode().splitlines()
    rows = [dict(zip(header.split(" "), line.split(" "), strict=True)) for line in lines]
    assert sum(int(row["bytes"]) for row in rows if row["action"] == "ACCEPT") == made().metered_bytes
    assert {row["log-status"] for row in rows} >= {"OK", "NODATA"}
    assert {row["action"] for row in rows} == {"ACCEPT", "REJECT", "-"}


def test_a_copy_has_the_same_text_in_other_bytes() -> None:
    file, copy = made(), replica(made())
    assert copy.body != file.body
    assert gzip.decompress(copy.body) == gzip.decompress(file.body)
    assert (copy.bucket, copy.key) != (file.bucket, file.key)
