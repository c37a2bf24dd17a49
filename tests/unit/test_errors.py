"""One error in place of a group of them.

On Python 3.11.2 (Debian 12) an error raised inside `except*` came wrapped in a new group, so that
no caller caught it; uploads and bundles failed with a trace instead of a message.
"""

import asyncio

import pytest

from serai.errors import ConfigError, Refused, SeraiError, Unavailable, ungrouped


async def failing(*errors: BaseException) -> None:
    async def fail(error: BaseException) -> None:
        raise error

    async with asyncio.TaskGroup() as group:
        for error in errors:
            group.create_task(fail(error))


async def test_one_error_stands_for_the_group() -> None:
    with pytest.raises(Unavailable, match="away"), ungrouped(SeraiError):
        await failing(Unavailable("away"))
    with pytest.raises(Refused), ungrouped(SeraiError, OSError):
        await failing(OSError("disk"), Refused("no"))
    with pytest.raises(ConfigError), ungrouped(SeraiError):
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [ConfigError("wrong")])])


async def test_what_is_not_of_the_kinds_stays_a_group() -> None:
    with pytest.raises(ExceptionGroup), ungrouped(SeraiError):
        await failing(Unavailable("away"), ValueError("a fault of ours"))
    with pytest.raises(KeyError), ungrouped(SeraiError):
        raise KeyError("no group at all")
