"""Numbers in few characters. Pure."""


def ago(seconds: float) -> str:
    """Return an age in the largest unit that says enough: 5s, 3m, 2h, 4d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


def milliseconds(value: float | None) -> str:
    """Return a latency: 0.3ms, 12ms, 1.5s."""
    if value is None:
        return "-"
    if value >= 9_999.5:
        return f"{value / 1000:.0f}s"
    if value >= 999.5:
        return f"{value / 1000:.1f}s"
    return f"{value:.0f}ms" if value >= 9.95 else f"{value:.1f}ms"


def rate(value: float | None) -> str:
    """Return a rate: 0.4, 12, 1840."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def count(value: int) -> str:
    """Return a count in at most five characters: 99999, 123k, 4.5M."""
    for unit, length in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= 100_000 and value >= length:
            amount = value / length
            return f"{amount:.0f}{unit}" if amount >= 9.95 else f"{amount:.1f}{unit}"
    return str(value)


def size(count_bytes: float | None) -> str:
    """Return an amount of memory: 512Mi, 1.5Gi."""
    if count_bytes is None:
        return "-"
    for unit, length in (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if count_bytes >= length:
            amount = count_bytes / length
            return f"{amount:.0f}{unit}" if amount >= 9.95 else f"{amount:.1f}{unit}"
    return f"{count_bytes:.0f}"
