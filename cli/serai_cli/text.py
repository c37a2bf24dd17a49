"""Text for a terminal: its width in cells, colours, nothing that moves the cursor. Pure."""

import unicodedata

CUT = "…"
BOLD, GREEN, YELLOW, RED, DIM = "1", "32", "33", "31", "2"


def paint(text: str, code: str) -> str:
    """Return text in a colour; an empty code leaves it as it is."""
    return f"\x1b[{code}m{text}\x1b[0m" if code and text.strip() else text


def printable(text: str) -> str:
    """Return text on one line, without anything that would move the cursor or hide something."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if c in "\n\t\r" else c if _harmless(c) else "?" for c in text)


def escaped(text: str) -> str:
    """Return text with what would move the cursor or hide something written out, as `\\x1b`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c == "\t" or _harmless(c) else repr(c)[1:-1] for c in text)


def _harmless(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(line: str, width: int) -> str:
    """Return a line no wider than `width` cells (0: as wide as it is)."""
    if not width or cells(line) <= width:
        return line
    room, kept = width - 1, ""
    for character in line:
        room -= _width(character)
        if room < 0:
            break
        kept += character
    return kept + CUT
