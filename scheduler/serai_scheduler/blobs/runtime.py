"""The runtime's code among the blobs, for nodes whose own release of Serai has another."""

from serai.blobs import Blobs, one_piece
from serai.runtime_code import runtime_blob, runtime_digest


async def keep_runtime(blobs: Blobs) -> None:
    """Store the code of the runtime that new versions are made with; errors as those of `put`."""
    if not await blobs.has([runtime_digest()]):
        blob = runtime_blob()
        await blobs.put(runtime_digest(), one_piece(blob), len(blob))
