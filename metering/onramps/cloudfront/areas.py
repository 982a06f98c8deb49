"""Billing areas of CloudFront."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_EDGE = re.compile(r"([A-Z]{3})[0-9]*(?:-[A-Z0-9]+)*")


@cache
def areas_by_airport() -> Mapping[str, str]:
    """Billing area (`EU`) of each known airport code (`LHR`); the data file says where both come from."""
    text = resources.files(__package__).joinpath("edge_areas.json").read_text(encoding="utf-8")
    areas: dict[str, str] = json.loads(text)["areas"]
    return {code: area for area, codes in areas.items() for code in codes.split()}


def airport_of(edge: str) -> str:
    """Airport code of an edge location, `LHR` of `LHR61-P2`; empty if it has another form."""
    found = _EDGE.fullmatch(edge)
    return found[1] if found is not None else ""
