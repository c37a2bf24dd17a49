"""Which data folder a one-machine Serai of this user has, so that the CLI finds it by itself."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

ENDPOINT_FILE = "endpoint.json"
LOCK_FILE = "lock"


def usual_folder() -> Path:
    """Return $SERAI_DATA_DIR, else the usual place for a user's data."""
    told = os.environ.get("SERAI_DATA_DIR")
    if told:
        return Path(told)
    import platformdirs

    return platformdirs.user_data_path("serai")


def folder_in_use() -> Path:
    """Return the folder of the Serai to talk to.

    That is the usual one, or the one that `serai up --data-dir` named last while none runs there.
    """
    usual = usual_folder()
    if os.environ.get("SERAI_DATA_DIR") or _is_held(usual):
        return usual
    with suppress(OSError, UnicodeDecodeError):
        other = Path(_note().read_text())
        if other.is_absolute() and (other / ENDPOINT_FILE).exists():
            # One that crashed is talked to as well, unless the usual one is there to tell of it.
            return other if _is_held(other) or not (usual / ENDPOINT_FILE).exists() else usual
    return usual


def _is_held(folder: Path) -> bool:
    """Say whether a `serai up` runs in a folder: it holds the lock there until it ends."""
    try:
        with (folder / LOCK_FILE).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def remember(folder: Path) -> None:
    """Note that a Serai runs in another folder than the usual one."""
    if folder == usual_folder().absolute():
        return
    with suppress(OSError):  # a home that is read-only: the user can still set SERAI_DATA_DIR
        _note().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _note().write_text(str(folder))


def forget(folder: Path) -> None:
    """Take the note back, unless it has become another's."""
    with suppress(OSError, UnicodeDecodeError):
        if _note().read_text() == str(folder):
            _note().unlink()


def _note() -> Path:
    import platformdirs

    return platformdirs.user_state_path("serai") / "data-folder"
