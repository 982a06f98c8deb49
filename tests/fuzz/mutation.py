"""Mutations of bytes, the usual ones: enough to reach every branch of a parser from a good example."""

from random import Random

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
