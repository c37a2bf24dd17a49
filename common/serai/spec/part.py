"""What every mapping in a spec is made from."""

from typing import dataclass_transform

import msgspec
from msgspec import field

END = r"$(?!\n)"  # `$` alone would let a trailing newline through


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class SpecPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Base of every mapping in a spec: immutable, unknown keys refused."""
