"""NOTICE names what others made, with its licence. The wheel carries it: tests/integration/test_wheel.py opens one."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_notice_has_every_licence_of_what_others_made() -> None:
    notice = " ".join((ROOT / "NOTICE").read_text().split())
    vendored = sorted((ROOT / "metering").rglob("vendor/LICENSE*"))
    assert vendored
    for licence in vendored:
        assert " ".join(licence.read_text().split()) in notice
    # A README beside data of others names their licence, and NOTICE names its folder.
    for readme in (ROOT / "metering").rglob("README.md"):
        if "CC BY" in readme.read_text():
            assert readme.parent.relative_to(ROOT).as_posix() in notice
            assert "CC BY 4.0" in notice
