"""Text from outside, made harmless for terminals and spreadsheets.

Account ids, resource ids and refused records are written by others: they can hold escape sequences that steer a
terminal, direction marks that reorder a line, and leading characters that a spreadsheet runs as a formula.
"""

import re
import unicodedata

# Unicode categories that can move the cursor, hide text or reorder it: controls, formats, surrogates, private use,
# unassigned, line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Characters that Excel, LibreOffice and Google Sheets take for the start of a formula (OWASP, CSV injection), with
# their full-width forms.
_FORMULA_START = re.compile("^\\s*[=+\\-@|%\uff1d\uff0b\uff0d\uff20]")

# Up to the last `@` before the path of a URL.
_USER_OF_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/]*@")


def printable(text: str) -> str:
    r"""Escape every character of `text` that is neither visible nor a plain space (`\x1b`, `\u202e`)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def spreadsheet_text(text: str) -> str:
    """Escape `text` as `printable` does, and put an apostrophe before a text that looks like a formula."""
    shown = printable(text)
    return f"'{shown}" if _FORMULA_START.match(shown) else shown


def cell_text(text: str) -> str:
    """A cell of our CSV: as `spreadsheet_text`, and a text that begins with an apostrophe gets one more.

    So whoever takes one apostrophe off the begin of a cell has the text (docs/contract.md).
    """
    shown = spreadsheet_text(text)
    return f"'{shown}" if text.startswith("'") else shown


def without_password(text: str) -> str:
    """A text in which no URL has a user and a password."""
    return _USER_OF_URL.sub(r"\1***@", text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
