"""Address ranges of AWS (ip-ranges.json), flattened: region and services of an address.

The narrowest prefix decides on the region: some 150 prefixes lie inside one of another region. A prefix that is only of
`AMAZON`, which lists nearly all of them, says nothing of the service: then the next wider one of the same region does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.context.prefixes import PrefixMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.onramps.context.facts import Prefix

_UMBRELLA = ("AMAZON",)


class AddressRange(NamedTuple):
    """What AWS says of an address.

    Attributes:
        region: Its region; `GLOBAL` for services without one.
        services: Services of the prefix that decides, sorted.
        all_services: Services of all prefixes that contain it, sorted.
    """

    region: str
    services: tuple[str, ...]
    all_services: tuple[str, ...]


NOT_OF_AWS = AddressRange("", (), ())


def address_ranges(prefixes: Iterable[Prefix]) -> PrefixMap[AddressRange]:
    """Region and services of each address. Equal answers are one object."""
    known: dict[AddressRange, AddressRange] = {}

    def choose(values: Sequence[AddressRange]) -> AddressRange:
        narrowest = values[-1]
        telling = (each for each in reversed(values) if each.region == narrowest.region and each.services != _UMBRELLA)
        everything = {service for each in values for service in each.services}
        found = AddressRange(narrowest.region, next(telling, narrowest).services, tuple(sorted(everything)))
        return known.setdefault(found, found)

    return PrefixMap(((each.cidr, AddressRange(each.region, each.services, ())) for each in prefixes), choose)
