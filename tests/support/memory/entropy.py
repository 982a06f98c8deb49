"""Names and jitter from a seed."""

from __future__ import annotations

import random


class SeededEntropy:
    """`Entropy` that gives the same names in the same order for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def below(self, limit: int) -> int:
        return self._random.randrange(limit)
