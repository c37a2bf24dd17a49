"""Completion in the shell: the scripts, and what they ask for."""

from typer._completion_classes import completion_init
from typer._completion_shared import get_completion_script

from serai.errors import ConfigError, SeraiError
from serai.operator import ApiList
from serai_cli import targets
from serai_cli.client import Client

DEADLINE_S = 1.0
SHELLS = ("bash", "zsh", "fish")


def prepare() -> None:
    """Teach the command line to answer the shells' questions."""
    completion_init()


def script(shell: str) -> str:
    """Return the script for a shell; ConfigError when there is none."""
    if shell not in SHELLS:
        raise ConfigError(f"no completion for {shell!r}; choose one of {', '.join(SHELLS)}")
    return get_completion_script(prog_name="serai", complete_var="_SERAI_COMPLETE", shell=shell)


def api_names(begun: str) -> list[str]:
    """Return the APIs whose names begin so; none where no scheduler answers quickly."""
    try:
        listed = Client(targets.find(), DEADLINE_S).get("/v1/apis", ApiList)
    except SeraiError:  # a shell that completes has no place for an error
        return []
    return [api.name for api in listed.apis if api.name.startswith(begun)]
