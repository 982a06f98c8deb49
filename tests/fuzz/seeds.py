"""Seeds for the fuzzers: a valid example of each form of input, and the stored corpus of interesting inputs.

`corpus/` holds message bodies (`*.body`) and objects (`*.ndjson`, `*.parquet`), found by fuzzing or made by hand. Keep
every file that once broke the reader.
"""

import json
from pathlib import Path
from random import Random

import pyarrow as pa

from tests.support.reading import BUCKET, PACK, SENT_AT_S, message, ndjson, parquet, pointer, record

CORPUS = Path(__file__).parent / "corpus"


def bodies() -> list[bytes]:
    """Message bodies: first a body of every form, then the corpus."""
    entry = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": BUCKET}, "object": {"key": "drop/x.ndjson", "eTag": "e"}},
    }
    detail = {"bucket": {"name": BUCKET}, "object": {"key": "drop/x.parquet", "etag": "e"}}
    made = [
        message([record(), record(bytes=-1), record(usage_type="X")]),
        {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": message([record()])},
        {"Records": [entry, entry]},
        {"Type": "Notification", "Message": json.dumps({"Records": [entry]})},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": detail},
        {"Event": "s3:TestEvent"},
        pointer("ingest/x", "ndjson", "gzip", sha256="0" * 64),
    ]
    return [json.dumps(each).encode() for each in made] + kept("body")


def objects(kind: str) -> list[bytes]:
    """Objects of a format (`ndjson`, `parquet`): first compressed and plain examples, then the corpus."""
    records = [record(resource_id=f"i-{n}", start=SENT_AT_S - n, end=SENT_AT_S) for n in range(20)]
    if kind == "ndjson":
        plain = ndjson([*records, record(bytes=1.5), "x"])
        return [pack(plain) for pack in PACK.values()] + kept(kind)
    table = pa.Table.from_pylist(records)
    stamped = table.set_column(7, "start", table.column("start").cast(pa.timestamp("s", "UTC")))
    versions = [
        parquet(table),
        parquet(stamped, compression="zstd", row_group_size=7),
        parquet(table, use_dictionary=False, compression="none", data_page_version="2.0"),
        parquet(table, compression="gzip", write_page_index=True, write_page_checksum=True),
    ]
    return versions + kept(kind)


def kept(suffix: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(CORPUS.glob(f"*.{suffix}"))]


# The usual byte mutations, which are sufficient to reach every branch of a parser from a valid example.

_TOKENS = [
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"9" * 400,
    b"[" * 300,
    b'{"a":' * 150,
    b"\\ud800",
    b"\\u0000",
]
_TOKENS += [
    b"\xff",
    b"\xed\xa0\x80",
    b"\0",
    b'"',
    b"\\",
    b",",
    b"}",
    b"]",
    b"\n",
    b"PAR1",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
]
_TOKENS += [b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x08", b"true", b"1e3", b"records", b"location", b"specversion"]


def mutated(seed: bytes, random: Random) -> bytes:
    """`seed` after 1 to 6 random changes."""
    data = bytearray(seed)
    for _ in range(random.randint(1, 6)):
        _mutate(data, random)
    return bytes(data)


def _mutate(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    length = min(1 << random.randrange(10), len(data) - at)
    change = random.randrange(7)
    if change == 0 and at < len(data):
        data[at] ^= 1 << random.randrange(8)
    elif change == 1 and at < len(data):
        data[at] = random.randrange(256)
    elif change == 2:
        del data[at : at + length]
    elif change == 3:
        data[at:at] = random.choice(_TOKENS)
    elif change == 4:
        token = random.choice(_TOKENS)
        data[at : at + len(token)] = token
    elif change == 5:
        data[at:at] = data[at : at + length] * random.randint(1, 3)
    else:
        source = random.randrange(len(data) + 1)
        data[at : at + length] = data[source : source + length]
