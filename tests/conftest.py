"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Machines differ in speed and are shared: a slow example is no failure. In the gate examples are the same each time,
# so that it is green or red for the change alone; elsewhere they are new each time.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "default")
