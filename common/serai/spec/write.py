"""Writes values as YAML that is read alike by the rules of YAML 1.1 and of 1.2."""

import re
from typing import Any

import yaml

from serai.spec.nodes import resolve

_BREAKS = "\x85\u2028\u2029\ufeff"
_NUMBER = re.compile(
    r"[-+]?(?:0o[0-7]+|0x[0-9a-fA-F]+|(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
)
"""Numbers of YAML 1.2's core schema of any length, with signs where only some readers take them."""
_SHORT_BOOLEANS = frozenset("yYnN")
"""Of YAML 1.1; PyYAML takes them for text, others do not."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which knows the numbers of 1.1 alone, where `0E0` is text without quotes."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = isinstance(resolve(text), str) and text not in _SHORT_BOOLEANS
    style = None if plain and not _NUMBER.fullmatch(text) else "'"
    if any(mark in text for mark in _BREAKS):
        style = '"'  # it would write them as they are, and read them as the end of a line
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(value: Any) -> str:
    """Return plain data (mappings, lists, texts, numbers, None) as a YAML document."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
