"""What an operator may set about the replicas of one machine, and the engine's own limits."""

from serai.model import Value

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PASSED_ON = (
    *("TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""Variables of the engine that replicas get too: without them a machine behind a proxy is mute."""

PASSED_ON_FOR_GPUS = ("CUDA_", "NVIDIA_", "LD_LIBRARY_PATH")
"""Beginnings of the variables that replicas with GPUs get besides."""


class LocalSettings(Value):
    """Settings of the local engine; the defaults suit one machine.

    `host` is where replicas listen and are probed. `ports` is the first and the last port given
    to replicas; it lies below the range that Linux gives to outgoing connections. `passed_on`
    names the engine's own variables that every replica gets. Replicas may mount what lies below
    `mount_roots`.
    """

    host: str = "127.0.0.1"
    ports: tuple[int, int] = (20_000, 29_999)
    log_file_bytes: int = 10 * 2**20
    log_files: int = 5
    log_line_bytes: int = 64 * 2**10
    ended_kept_per_api: int = 10
    log_tail_lines: int = 20
    probe_timeout_s: float = 2.0
    launches: int = 3
    oom_score: int = 500
    path: str = DEFAULT_PATH
    passed_on: tuple[str, ...] = PASSED_ON
    body_max_bytes: int = 2**30
    total_timeout_s: float = 600.0
    drain_limit_s: float = 86_400.0
    usage_period_s: float = 1.0
    prune_period_s: float = 600.0
    docker_url: str = ""
    mount_roots: tuple[str, ...] = ()
