"""What the gateway keeps in its state folder: HAProxy's files, and the last good orders."""

import logging
from pathlib import Path

from serai import wire
from serai.errors import ConfigError, SeraiError, Unavailable
from serai.model import Server, Value
from serai.routes import Route
from serai_agent.edge import config
from serai_agent.edge.process import CONFIG_FILE

log = logging.getLogger(__name__)


class LastGood(Value):
    """Orders that were carried out, so that a gateway starts without scheduler or registry."""

    routes: tuple[Route, ...]
    servers: tuple[Server, ...]
    slots: dict[str, int]


class GatewayFiles:
    """The files of one state folder; each is replaced whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hold = (Path(__file__).parent / "hold.lua").read_text()
        self._kept: LastGood | None = None

    def make(self) -> None:
        """Make the folder; ConfigError when that is not possible."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(
                f"cannot use the gateway's folder {self._folder}: {error.strerror}; "
                "make it writable or choose another"
            ) from error

    def write(
        self,
        settings: config.EdgeSettings,
        servers: dict[str, tuple[config.ServerLine, ...]],
        entries: dict[str, str],
    ) -> None:
        """Write what HAProxy reads when it starts; Unavailable when the disk refuses."""
        lines = "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))
        try:
            self._replace("hold.lua", self._hold.encode())
            self._replace(config.ROUTE_MAP, lines.encode())
            self._replace(CONFIG_FILE, config.render(settings, servers, self._hold).encode())
        except OSError as error:
            raise Unavailable(f"cannot write HAProxy's configuration: {error}") from error

    def write_state(self, draining: bool) -> None:
        """Write what HAProxy tells of itself after its next start; Unavailable as above."""
        try:
            self._replace(config.STATE_MAP, f"{config.DRAINING} 1\n".encode() * draining)
        except OSError as error:
            raise Unavailable(f"cannot write HAProxy's configuration: {error}") from error

    def are_made_from(self, settings: config.EdgeSettings) -> bool:
        """Say whether the configuration on disk was made from these settings by this program."""
        try:
            text = (self._folder / CONFIG_FILE).read_text()
        except OSError:
            return False
        return config.is_made_from(text, config.fingerprint(settings, self._hold))

    def remember(
        self,
        orders: LastGood,
        settings: config.EdgeSettings,
        servers: dict[str, tuple[config.ServerLine, ...]],
        entries: dict[str, str],
    ) -> None:
        """Keep orders, also for a HAProxy that somebody else starts again or reloads.

        A disk that refuses is only logged, for they are in force all the same.
        """
        if orders == self._kept:
            return
        try:
            self._replace("last.json", wire.encode(orders))
            self.write(settings, servers, entries)
            self._kept = orders
        except (OSError, Unavailable) as error:
            log.warning("last good routes not kept", extra={"why": str(error)})

    def recall(self) -> LastGood | None:
        """Return the orders kept last, or None when there are none that can be read."""
        try:
            return wire.decode((self._folder / "last.json").read_bytes(), LastGood)
        except FileNotFoundError:
            return None
        except (OSError, SeraiError) as error:
            log.warning("last good routes not readable", extra={"why": str(error)})
            return None

    def _replace(self, name: str, data: bytes) -> None:
        temporary = self._folder / f"{name}.new"
        temporary.write_bytes(data)
        temporary.replace(self._folder / name)
