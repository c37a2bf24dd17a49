"""The options of `serai-runtime` that a version alone decides, wherever it runs. Pure."""

from serai.model import Version
from serai.sharing import processes, shares


def runtime_options(version: Version) -> list[str]:
    """Return them for the version of a predictor; addresses, files and limits are its place's.

    The runtime of an older release reads them, too: one that it does not know ends its replica.
    """
    content, predictor = version.content, version.content.predictor
    assert predictor is not None
    capacities = shares(content.concurrency_per_replica, processes(version))
    options = [
        *("--threads", str(predictor.threads)),
        *("--concurrency", ",".join(str(capacity) for capacity in capacities)),
        *("--log-format", "json"),
        *("--api", version.api),
        *("--version-name", version.name),
    ]
    if predictor.batch is not None:
        options += ["--batch-max-size", str(predictor.batch.max_size)]
        options += ["--batch-max-wait-ms", f"{predictor.batch.max_wait_ms:g}"]
    return options
