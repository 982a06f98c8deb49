from __future__ import annotations

from pathlib import Path

# Folder of the checkout.
ROOT = Path(__file__).resolve().parents[1]
