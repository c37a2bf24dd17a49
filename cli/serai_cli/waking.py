"""`serai wake`: asks for a first replica and shows how it comes."""

import http.client

from serai import wire
from serai.errors import ConfigError, Unavailable
from serai.operator import Done
from serai.waking import ENDS, WakePhase, WakeProgress
from serai_cli.client import Client, api_path
from serai_cli.exits import DONE, FAILED
from serai_cli.output import note, write
from serai_cli.text import printable

MAX_LINE_BYTES = 2**16


def wake(client: Client, api: str) -> int:
    """Return 0 once a replica is ready, 1 when it fails; Unavailable where it breaks off."""
    shown = ""
    client.post(api_path(api, "/wake"), None, Done)
    try:
        with client.open("GET", api_path(api, "/wake")) as response:
            while raw := response.readline(MAX_LINE_BYTES):
                now = wire.decode_answer(raw, WakeProgress)
                if now.phase is WakePhase.FAILED:
                    note(printable(f"{api} did not wake: {now.reason}"))
                    return FAILED
                if now.phase is WakePhase.ASLEEP:
                    note(f"{api} sleeps: a new scheduler leads; wake it again: `serai wake {api}`")
                    return FAILED
                if (line := written(now)) != shown:
                    write([printable(line)])
                    shown = line
                if now.phase in ENDS:
                    return DONE
    except ConfigError as error:
        raise Unavailable(f"a line cannot be read: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise client.away(error) from error
    raise Unavailable(f"the scheduler no longer leads; `serai wake {api}` asks the next one")


def written(now: WakeProgress) -> str:
    """Return the progress as a line."""
    if now.phase is WakePhase.READY:
        return f"{now.api} is ready"
    usual = f", usually ready in {now.eta_s:.0f} s" if now.eta_s else ""
    why = f" ({now.reason})" if now.reason else ""
    return f"{now.api}: {now.phase.value}{why}{usual}"
