"""Synthetic records one by one, for tests that need rows instead of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.replay.records import Records


def record_dicts(records: Records) -> list[Mapping[str, str | int]]:
    """Each record as a mapping of its fields."""
    columns = records.columns()
    return [{name: values[place] for name, values in columns.items()} for place in range(len(records.rows))]
