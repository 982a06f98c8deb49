"""A region of release 0.1.0 is upgraded: nothing is lost or counted twice, wherever the upgrade is killed."""

from __future__ import annotations

import pytest

from metering.errors import FormatTooOldError
from metering.ledger.format_version import LedgerFormat, check_format, ledger_format
from metering.stores.writes import Table
from tests.unit.upgrade.old_region import OldRegion


def test_the_new_usage_table_says_what_the_old_one_said() -> None:
    region = OldRegion()
    with pytest.raises(FormatTooOldError, match="run metering upgrade"):
        check_format(region.items)

    region.upgraded()

    assert region.usage() == region.old_usage()
    assert len(region.usage()) > 600
    assert ledger_format(region.items) == LedgerFormat(number=2, written_by="0.2.0", usage_generation=2)


def test_the_region_goes_on_as_if_it_had_always_had_the_new_format() -> None:
    region = OldRegion().upgraded()
    jobs = region.parts().jobs()
    before = region.usage()

    jobs.compactor_of(jobs.policy.everything()).run(region.deadline(10_000))
    region.clock.sleep_ms(3 * 86_400_000)
    jobs.cleaner.run(region.deadline())
    jobs.orphans.run(region.deadline(), whole=True)
    rebuilt = jobs.rebuilder.usage()

    assert (rebuilt.repaired, rebuilt.unstable, rebuilt.damaged) == (0, (), ())
    assert region.usage() == before
    assert not list(region.objects.list("staging/"))
    assert not [item for item in region.items.everything(Table.LEDGER) if str(item["pk"]).startswith("P#")]
