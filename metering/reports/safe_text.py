"""Text from outside, made harmless before a terminal or a spreadsheet sees it.

Account ids, resource ids and refused records are written by others: they can hold escape sequences that steer a
terminal, direction marks that reorder a line, and leading characters that a spreadsheet runs as a formula.
"""

import re
import unicodedata

# Unicode categories that can move the cursor, hide text or reorder it: controls, formats, surrogates, private use,
# unassigned, line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# What Excel, LibreOffice and Google Sheets take for the start of a formula (OWASP, CSV injection), full-width forms
# included.
_FORMULA_START = re.compile("^\\s*[=+\\-@|%\uff1d\uff0b\uff0d\uff20]")


def printable(text: str) -> str:
    r"""`text` with everything that is no visible character or plain space written as its escape (`\x1b`, `\u202e`)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def spreadsheet_text(text: str) -> str:
    """`printable` text that no spreadsheet runs: one that looks like a formula gets a leading apostrophe."""
    shown = printable(text)
    return f"'{shown}" if _FORMULA_START.match(shown) else shown


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
