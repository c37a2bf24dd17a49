"""Rows as aligned text. Pure."""

from collections.abc import Sequence

GAP = "  "
CUT = "…"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int = 0,
    right: frozenset[int] = frozenset(),
) -> list[str]:
    """Return aligned lines; columns in `right` are flushed right, `width` 0 means no limit.

    When it does not fit, the last column is cut.
    """
    columns = [[header[i], *(row[i] for row in rows)] for i in range(len(header))]
    widths = [max(len(cell) for cell in column) for column in columns]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ]
        lines.append(cut(GAP.join(cells).rstrip(), width))
    return lines


def cut(line: str, width: int) -> str:
    """Return a line no longer than `width` (0: as long as it is)."""
    return line if not width or len(line) <= width else line[: max(0, width - 1)] + CUT


def without_empty(
    header: Sequence[str], rows: Sequence[Sequence[str]], optional: frozenset[str], empty: str
) -> tuple[list[str], list[list[str]]]:
    """Leave out the optional columns in which every row says nothing."""
    kept = [
        i
        for i, name in enumerate(header)
        if name not in optional or any(row[i] != empty for row in rows)
    ]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def ago(seconds: float) -> str:
    """Return an age in the largest unit that says enough: 5s, 3m, 2h, 4d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


def milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}ms" if value >= 10 else f"{value:.1f}ms"


def rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def size(count_bytes: float | None) -> str:
    """Return an amount of memory: 512Mi, 1.5Gi."""
    if count_bytes is None:
        return "-"
    for unit, length in (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if count_bytes >= length:
            amount = count_bytes / length
            return f"{amount:.0f}{unit}" if amount >= 10 else f"{amount:.1f}{unit}"
    return f"{count_bytes:.0f}"
