"""Quantities as users write them (30s, 32MiB, 200m) and as the code counts them.

Each type is a value with its unit in the name of its one field; `parse` accepts what a YAML file
may hold, `str()` gives it back in the shortest form.
"""

import re
from dataclasses import dataclass
from typing import Self

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|K|k|M|G|T)?(?:B)?")
_BYTES = {
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
    "K": 10**3, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Duration:
    """A length of time, written `500ms`, `30s`, `10m`, `1h30m`; a bare number means seconds."""

    seconds: float

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Raise ValueError with what is allowed when `raw` is not a duration."""
        if isinstance(raw, int | float) and not isinstance(raw, bool) and raw >= 0:
            return cls(float(raw))
        if isinstance(raw, str):
            parts = _DURATION.findall(raw)
            if parts and "".join(n + u for n, u in parts) == raw:
                return cls(sum(float(n) * _SECONDS[u] for n, u in parts))
        raise ValueError("expected a duration such as 500ms, 30s, 10m or 1h")

    def __str__(self) -> str:
        for unit, seconds in (("h", 3600), ("m", 60), ("s", 1)):
            if self.seconds >= seconds and self.seconds % seconds == 0:
                return f"{int(self.seconds // seconds)}{unit}"
        milliseconds = round(self.seconds * 1000, 6)
        return f"{milliseconds:g}ms" if milliseconds else "0s"


@dataclass(frozen=True, order=True)
class Size:
    """An amount of bytes, written `512Mi`, `32MiB`, `1G`; a bare number means bytes."""

    bytes: int

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Raise ValueError with what is allowed when `raw` is not a size."""
        if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
            return cls(raw)
        if isinstance(raw, str) and (match := _SIZE.fullmatch(raw)):
            return cls(int(float(match[1]) * _BYTES.get(match[2] or "", 1)))
        raise ValueError("expected a size such as 512Mi, 32MiB or 1G")

    def __str__(self) -> str:
        for unit in ("Ti", "Gi", "Mi", "Ki"):
            if self.bytes and self.bytes % _BYTES[unit] == 0:
                return f"{self.bytes // _BYTES[unit]}{unit}"
        return str(self.bytes)


@dataclass(frozen=True, order=True)
class Cpu:
    """Processor time, written `200m` (a fifth of a core) or `2` (two cores)."""

    millicores: int

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Raise ValueError with what is allowed when `raw` is not an amount of processor time."""
        if isinstance(raw, int | float) and not isinstance(raw, bool) and raw >= 0:
            return cls(round(raw * 1000))
        if isinstance(raw, str) and re.fullmatch(r"\d+m", raw):
            return cls(int(raw[:-1]))
        if isinstance(raw, str) and re.fullmatch(r"\d+(\.\d+)?", raw):
            return cls(round(float(raw) * 1000))
        raise ValueError("expected processor time such as 200m, 0.5 or 2")

    def __str__(self) -> str:
        whole, rest = divmod(self.millicores, 1000)
        return str(whole) if not rest else f"{self.millicores}m"
