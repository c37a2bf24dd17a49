"""What an operator may set about the jobs of a cluster."""

from typing import Annotated, Literal

from msgspec import Meta

from serai.model import Value

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Amount = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]


class JobSettings(Value):
    """Settings of the jobs; whoever changes one restarts replicas when their job is built anew.

    `cache_dir` is the folder of the agents' caches, the same on each node; `platform` is what they
    say of their nodes. With `predictor_image`, predictors run in containers of that image, in
    whose name `{python}` is the version's ("3.11"); `platform` is then what is in it, and the
    agents' `image_platform` has to be the same. `image_user` is who they are there,
    `temporary_mib` bounds the `/tmp` that counts as their memory.

    `program_driver` runs predictors and programs; `exec` shows them of the node
    only what Nomad's client is told to show, so that it needs `cache_volume`, a host volume of that
    name over `cache_dir`. `mhz_per_core` is what Nomad counts for a core of these nodes.
    `default_memory_mib` is asked for where a spec sets no limit.

    A stop: the service leaves Consul, `leave_s` pass until all gateways know, SIGTERM, then the
    answers in flight get their time but no more than `max_kill_timeout_s`. Nomad's clients cap it
    silently by their own `max_kill_timeout`, 30 s unless set: set it to the same.
    """

    prefix: str = "serai"
    namespace: str = "default"
    datacenters: tuple[str, ...] = ("*",)
    priority: int = 50
    program_driver: Literal["raw_exec", "exec"] = "raw_exec"
    cache_dir: str = "/var/lib/serai/cache"
    cache_volume: str = "serai-cache"
    platform: str = "linux-x86_64-glibc-2.36"
    predictor_image: str = ""
    image_user: str = "65534:65534"
    temporary_mib: Amount = 64
    path: str = DEFAULT_PATH
    mhz_per_core: Amount = 1000
    default_memory_mib: Amount = 512
    restarts: int = 2
    restart_interval_s: Annotated[float, Meta(ge=5)] = 600.0
    restart_delay_s: Seconds = 1.0
    healthy_after_s: Seconds = 1.0
    healthy_within_s: Seconds = 1800.0
    check_timeout_s: Annotated[float, Meta(ge=1)] = 2.0
    prepare_limit_s: Amount = 1800
    leave_s: Seconds = 3.0
    max_kill_timeout_s: Seconds = 3600.0
    image_pull_limit_s: Amount = 3600
    log_file_mib: Amount = 10
    log_files: Amount = 5
    disk_mib: Amount = 200
    body_max_bytes: int = 2**30
    total_timeout_s: float = 600.0
