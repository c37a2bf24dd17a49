"""The forms in which answers are written."""

from enum import StrEnum


class Form(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
