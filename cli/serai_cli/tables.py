"""Rows as aligned text that fits: long cells are shortened, the least needed columns go. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serai_cli.text import BOLD, cells, cut, paint, printable

GAP = "  "

Paint = Callable[[str], str]


@dataclass(frozen=True)
class Look:
    """How wide lines may be (0: no limit), and whether colours are shown."""

    width: int = 0
    colour: bool = False


PLAIN = Look()


@dataclass(frozen=True)
class Column:
    """A column: `least` cells remain when it is shortened (0: never shortened).

    `drop` orders what goes first when the rows do not fit (1 before 2; 0: never); where every row
    says `quiet` the column is left out; `paint` returns the colour code for a cell.
    """

    name: str
    right: bool = False
    least: int = 0
    drop: int = 0
    quiet: str | None = None
    paint: Paint | None = None


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], look: Look = PLAIN
) -> list[str]:
    """Return a header and the rows, aligned, no line wider than the look allows."""
    clean = [[printable(cell) for cell in row] for row in rows]
    kept = [i for i, column in enumerate(columns) if not _says_nothing(column, i, clean)]
    natural = {i: max(cells(t) for t in (columns[i].name, *(r[i] for r in clean))) for i in kept}
    widths = _fitted(columns, natural, look.width)
    header = cut(_line([column.name for column in columns], columns, widths), look.width)
    if not look.colour:
        return [header, *(cut(_line(row, columns, widths), look.width) for row in clean)]
    return [paint(header, BOLD), *(_painted(row, columns, widths, look.width) for row in clean)]


def _says_nothing(column: Column, index: int, rows: Sequence[Sequence[str]]) -> bool:
    return column.quiet is not None and all(row[index] == column.quiet for row in rows)


def _fitted(columns: Sequence[Column], natural: dict[int, int], width: int) -> dict[int, int]:
    """Return the columns that stay with their widths: shortened first, then dropped."""
    going = sorted((i for i in natural if columns[i].drop), key=lambda i: columns[i].drop)
    left = dict(natural)
    for drop in (None, *going):
        if drop is not None:
            del left[drop]
        least = {i: min(w, columns[i].least or w) for i, w in left.items()}
        if not width or _total(least) <= width:
            break
    return _shortened(left, least, width)


def _shortened(natural: dict[int, int], least: dict[int, int], width: int) -> dict[int, int]:
    if not width:
        return natural
    widths = {i: min(wanted, max(width, least[i])) for i, wanted in natural.items()}
    while _total(widths) > width:
        longest = max(widths, key=lambda i: widths[i] - least[i])
        if widths[longest] <= least[longest]:
            break
        widths[longest] -= 1
    return widths


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _line(texts: Sequence[str], columns: Sequence[Column], widths: dict[int, int]) -> str:
    return GAP.join(_padded(texts[i], columns[i], width) for i, width in widths.items()).rstrip()


def _padded(text: str, column: Column, width: int) -> str:
    short = cut(text, width) if width else text
    space = " " * (width - cells(short))
    return space + short if column.right else short + space


def _painted(
    row: Sequence[str], columns: Sequence[Column], widths: dict[int, int], width: int
) -> str:
    used, parts = 0, []
    for i, column_width in widths.items():
        text = _padded(row[i], columns[i], column_width)
        if width:
            text = cut(text, width - used)
        colour = columns[i].paint
        parts.append(paint(text, colour(row[i]) if colour else ""))
        used += column_width + len(GAP)
        if width and used >= width:
            break
    return GAP.join(parts).rstrip()
