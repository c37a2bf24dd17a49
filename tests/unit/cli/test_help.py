"""What `--help` of every command and group holds."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from serai_cli.main import app


def _commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield f"{words} {name}", inner
        yield from _commands(inner, f"{words} {name}")


def test_every_command_and_group_says_what_it_does_and_gives_an_example_of_its_own() -> None:
    found = dict(_commands(get_command(app), "serai"))
    assert len(found) > 30
    assert [words for words, command in found.items() if not (command.help or "").strip()] == []
    begin = {words: f"example: {words}" for words in found}
    assert {
        words: command.epilog
        for words, command in found.items()
        if not (command.epilog or "").startswith(begin[words])
    } == {}
