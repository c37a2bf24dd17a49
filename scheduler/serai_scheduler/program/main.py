"""The command `serai-scheduler --config FILE`: statuses 0 ended, 1 failed, 2 bad configuration."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

from serai.config import load_config
from serai.errors import ConfigError, SeraiError
from serai.logs import setup
from serai_scheduler.program.engine import EngineSide
from serai_scheduler.program.prepare import Prepared, prepare
from serai_scheduler.program.serve import serve
from serai_scheduler.program.settings import SchedulerConfig

FAILED, BAD_CONFIG, FORCED = 1, 2, 130


def main(arguments: Sequence[str] | None = None, side: EngineSide | None = None) -> int:
    """Run a scheduler until a signal ends it; `side` stands for Nomad in tests."""
    asked = _parser().parse_args(arguments)
    try:
        prepared = prepare(load_config(asked.config, SchedulerConfig))
        if asked.check:
            print(f"{asked.config} can be used")
            return 0
        setup("scheduler", level=asked.log_level)
        # Its every retry is a line; what came of them is told by our own.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        asyncio.run(_serve_until_told(prepared, side))
    except ConfigError as error:
        print(f"serai-scheduler: {error}", file=sys.stderr)
        return BAD_CONFIG
    except SeraiError as error:
        print(f"serai-scheduler: {error}", file=sys.stderr)
        return FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serai-scheduler", description="One of the schedulers of a Serai cluster."
    )
    parser.add_argument("--config", type=Path, required=True, help="its configuration, TOML")
    parser.add_argument(
        "--check", action="store_true", help="only say whether the configuration can be used"
    )
    levels = ("debug", "info", "warning", "error")
    parser.add_argument("--log-level", choices=levels, default="info", help="info unless given")
    parser.add_argument("--version", action="version", version=installed_version("serai"))
    return parser


async def _serve_until_told(prepared: Prepared, side: EngineSide | None) -> None:
    stopping = asyncio.Event()

    def asked() -> None:
        if stopping.is_set():
            os._exit(FORCED)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked)
    await serve(prepared, stopping, side)
