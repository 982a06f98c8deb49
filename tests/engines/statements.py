"""The statements of docs/analytics.md, as they stand there."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "analytics.md"
_BLOCK = re.compile(r"```\w+\n(?:--|#) ([\w ]+)\n(.*?)```", re.DOTALL)
_DAY = "2026-11-24"


def statement(name: str, *, day: str, folder: Path | None = None) -> str:
    """The block of the page that begins with this name, for another day, and over a folder in place of the bucket.

    Raises:
        KeyError: The page has no such block.
    """
    blocks: dict[str, str] = {found[1]: found[2] for found in _BLOCK.finditer(PAGE.read_text())}
    text = blocks[name]
    if folder is not None:
        text = re.sub("s3a?://BUCKET", str(folder), text)
    return text.replace(_DAY, day)
