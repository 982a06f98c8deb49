"""Data-transfer metering for AWS regions.

For Python programs: `metering.Producer` sends records, `metering.connect` reads usage and cost, `metering.__version__`
is the version. All three names are imported on first use, so that imports of the package stay cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metering.client.connection import connect
    from metering.producer.producer import Producer

    __version__: str

__all__ = ["Producer", "__version__", "connect"]


def __getattr__(name: str) -> object:
    if name == "Producer":
        from metering.producer.producer import Producer

        return Producer
    if name == "connect":
        from metering.client.connection import connect

        return connect
    if name == "__version__":
        from metering.version import package_version

        return package_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
