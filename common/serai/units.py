"""Quantities as users write them (30s, 32MiB, 200m) and as the code counts them.

Each type is an immutable value with its unit in the name of its one property; `parse` accepts what
a YAML file may hold, `str()` gives it back in the shortest form. They are plain classes on purpose:
msgspec writes dataclasses and tuples by itself, and never asks the hooks of `serai.spec.codec`.
"""

import re
from fractions import Fraction
from typing import Any, NoReturn, Self

_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_SECONDS = {
    "ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600),
    "d": Fraction(86400),
}  # fmt: skip
_SIZE = re.compile(rf"({_NUMBER})(Ki|Mi|Gi|Ti|K|k|M|G|T)?B?")
_BYTES = {
    "": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
    "K": 10**3, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
}  # fmt: skip
_CPU = re.compile(rf"({_NUMBER})(m)?")
_MOST_SECONDS = 10**9
_MOST_BYTES = 2**60
_MOST_MILLICORES = 10**9


class _Quantity:
    """One number that cannot change; equal, ordered and hashed by it within its own type."""

    __slots__ = ("_amount",)
    _amount: Any

    def __init__(self, amount: Any) -> None:
        object.__setattr__(self, "_amount", amount)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bool(self._amount == other._amount)

    def __lt__(self, other: Self) -> bool:
        return bool(self._amount < other._amount) if type(other) is type(self) else NotImplemented

    def __le__(self, other: Self) -> bool:
        return bool(self._amount <= other._amount) if type(other) is type(self) else NotImplemented

    def __gt__(self, other: Self) -> bool:
        return bool(self._amount > other._amount) if type(other) is type(self) else NotImplemented

    def __ge__(self, other: Self) -> bool:
        return bool(self._amount >= other._amount) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._amount))

    def __reduce__(self) -> tuple[type[Self], tuple[Any]]:
        return type(self), (self._amount,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._amount!r})"


class Duration(_Quantity):
    """A length of time, written `500ms`, `30s`, `10m`, `1h30m`; a bare number means seconds."""

    __slots__ = ()

    def __init__(self, seconds: float) -> None:
        super().__init__(float(seconds))

    @property
    def seconds(self) -> float:
        """Return it in seconds, exact to a microsecond."""
        return float(self._amount)

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Raise ValueError with what is allowed when `raw` is not a duration."""
        seconds = _plain_number(raw)
        if isinstance(raw, str) and (parts := _DURATION.findall(raw)):
            whole = "".join(number + unit for number, unit in parts) == raw
            seconds = sum((Fraction(n) * _SECONDS[u] for n, u in parts), Fraction())
            seconds = seconds if whole else None
        if seconds is not None and 0 <= seconds <= _MOST_SECONDS:
            return cls(round(float(seconds), 6))
        raise ValueError("expected a duration such as 500ms, 30s, 10m or 1h")

    def __str__(self) -> str:
        for unit, seconds in (("h", 3600), ("m", 60), ("s", 1)):
            if self._amount >= seconds and self._amount % seconds == 0:
                return f"{int(self._amount // seconds)}{unit}"
        milliseconds = f"{self._amount * 1000:.3f}".rstrip("0").rstrip(".")
        return f"{milliseconds}ms" if milliseconds != "0" else "0s"


class Size(_Quantity):
    """An amount of bytes, written `512Mi`, `32MiB`, `1G`; a bare number means bytes."""

    __slots__ = ()

    def __init__(self, bytes: int) -> None:
        super().__init__(bytes)

    @property
    def bytes(self) -> int:
        """Return it in bytes."""
        return int(self._amount)

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Raise ValueError with what is allowed when `raw` is not a size."""
        amount = _plain_number(raw) if not isinstance(raw, float) else None
        if isinstance(raw, str) and (match := _SIZE.fullmatch(raw)):
            amount = Fraction(match[1]) * _BYTES[match[2] or ""]
        if amount is not None and 0 <= amount <= _MOST_BYTES:
            return cls(int(amount))
        raise ValueError("expected a size such as 512Mi, 32MiB or 1G")

    def __str__(self) -> str:
        for unit in ("Ti", "Gi", "Mi", "Ki"):
            if self._amount and self._amount % _BYTES[unit] == 0:
                return f"{self._amount // _BYTES[unit]}{unit}"
        return str(self._amount)


class Cpu(_Quantity):
    """Processor time, written `200m` (a fifth of a core) or `2` (two cores)."""

    __slots__ = ()

    def __init__(self, millicores: int) -> None:
        super().__init__(millicores)

    @property
    def millicores(self) -> int:
        """Return it in thousandths of a core."""
        return int(self._amount)

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Raise ValueError with what is allowed when `raw` is not an amount of processor time."""
        cores = _plain_number(raw)
        if isinstance(raw, str) and (match := _CPU.fullmatch(raw)):
            cores = Fraction(match[1]) / (1000 if match[2] else 1)
        if cores is not None and 0 <= cores * 1000 <= _MOST_MILLICORES:
            return cls(round(cores * 1000))
        raise ValueError("expected processor time such as 200m, 0.5 or 2")

    def __str__(self) -> str:
        whole, rest = divmod(self._amount, 1000)
        return str(whole) if not rest else f"{self._amount}m"


def _plain_number(raw: object) -> Fraction | None:
    """Return a bare number, or None where `raw` is no finite number at all."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    if isinstance(raw, float) and raw - raw != 0:
        return None
    return Fraction(raw)
