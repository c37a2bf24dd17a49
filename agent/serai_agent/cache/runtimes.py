"""Keeps a copy of every runtime that a version of this node was made with.

A version names its runtime by digest; after an upgrade of Serai its replicas must still start
with the one they were tested with.
"""

import shutil
from pathlib import Path

from serai.errors import ConfigError
from serai_agent.cache.disk import in_place
from serai_agent.cache.runtime import runtime_digest, runtime_files


def kept_runtime(folder: Path, digest: str) -> Path:
    """Return the folder with the code of a runtime ("" is the installed one); for a thread.

    Raises ConfigError when it is neither installed nor kept, OSError when the disk refuses.
    """
    digest = digest or runtime_digest()
    kept = folder / digest
    if not kept.is_dir():
        if digest != runtime_digest():
            raise ConfigError(
                f"this version was made with another release of Serai (runtime {digest[:12]}), "
                "which this node does not have; deploy the API again"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with in_place(kept) as fresh:
            for path in runtime_files():
                shutil.copyfile(path, fresh / path.name)
            fresh.chmod(0o755)
    return kept
