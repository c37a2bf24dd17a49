"""How a replica is started: its command line, environment and servers. Pure."""

from collections.abc import Mapping

from serai.errors import ConfigError
from serai.model import Server, server_id
from serai.runtime_options import runtime_options
from serai.sharing import shares
from serai_agent.local.folder import Launch, Order, ReplicaFolder
from serai_agent.local.place import Place
from serai_agent.local.settings import PASSED_ON_FOR_GPUS, LocalSettings


def servers(order: Order, host: str, ports: tuple[int, ...]) -> tuple[Server, ...]:
    """Return the servers of a replica, one per process."""
    capacities = shares(order.version.content.concurrency_per_replica, len(ports))
    return tuple(
        Server(
            id=server_id(order.replica, index),
            replica=order.replica,
            api=order.version.api,
            version=order.version.name,
            host=host,
            port=port,
            capacity=capacity,
        )
        for index, (port, capacity) in enumerate(zip(ports, capacities, strict=True))
    )


def launch_of(
    order: Order,
    place: Place,
    folder: ReplicaFolder,
    ports: tuple[int, ...],
    settings: LocalSettings,
    own: Mapping[str, str],
    launches: int = 1,
) -> Launch:
    """Return how to start a replica; `own` are the engine's own variables.

    Raises ConfigError for a version that is neither a predictor nor a program.
    """
    content = order.version.content
    cwd = str(place.bundle or folder.temporary)
    if content.predictor is not None:
        command = _runtime_command(order, place, folder, ports, settings)
        cwd = str(folder.temporary)  # the runtime itself goes to the bundle, with its imports safe
    elif content.pod is not None and content.pod.command:
        command = content.pod.command
    else:
        raise ConfigError(f"{order.version.api} has neither a predictor nor a command to run")
    return Launch(
        command=command,
        env=_environment(order, place, folder, ports, settings, own),
        cwd=cwd,
        log_file_bytes=settings.log_file_bytes,
        log_files=settings.log_files,
        log_line_bytes=settings.log_line_bytes,
        oom_score_adj=settings.oom_score,
        ports=ports,
        launches=launches,
    )


def _runtime_command(
    order: Order,
    place: Place,
    folder: ReplicaFolder,
    ports: tuple[int, ...],
    settings: LocalSettings,
) -> tuple[str, ...]:
    predictor = order.version.content.predictor
    assert predictor is not None
    if place.environment is None or place.bundle is None:
        raise ConfigError(f"{order.version.api}: a predictor needs a bundle and a lock")
    return (
        *(str(place.environment / "bin" / "python"), "-m", "serai_runtime"),
        str(place.bundle / predictor.path),
        *("--host", settings.host),
        *("--port", ",".join(str(port) for port in ports)),
        *("--config", str(folder.config_file)),
        *("--body-max-bytes", str(settings.body_max_bytes)),
        *("--total-timeout-s", f"{settings.total_timeout_s:g}"),
        *("--drain-limit-s", f"{settings.drain_limit_s:g}"),
        *("--project-dir", str(place.bundle)),
        *("--replica", order.replica),
        *("--status-file", str(folder.status_file)),
        *runtime_options(order.version),
    )


def _python_path(env: Mapping[str, str], place: Place) -> dict[str, str]:
    """Return PYTHONPATH below the bundle: a predictor's interpreter starts in another folder."""
    if place.bundle is None or "PYTHONPATH" not in env:
        return {}
    places = (str(place.bundle / one) for one in env["PYTHONPATH"].split(":") if one)
    return {"PYTHONPATH": ":".join(places)}


def _environment(
    order: Order,
    place: Place,
    folder: ReplicaFolder,
    ports: tuple[int, ...],
    settings: LocalSettings,
    own: Mapping[str, str],
) -> dict[str, str]:
    content = order.version.content
    path = settings.path
    if place.environment is not None:
        path = f"{place.environment / 'bin'}:{path}"
    environment = {
        "PATH": path,
        "HOME": str(folder.temporary),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # bundle and environment are shared and read-only
        **{name: own[name] for name in settings.passed_on if name in own},
    }
    if content.compute.gpu > 0:
        environment |= {n: v for n, v in own.items() if n.startswith(PASSED_ON_FOR_GPUS)}
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return {
        **environment,
        **content.env,
        **_python_path(content.env, place),
        "TMPDIR": str(folder.temporary),  # also how left-over processes are recognised
        "PORT": str(ports[0]),
        "SERAI_API": order.version.api,
        "SERAI_VERSION": order.version.name,
        "SERAI_REPLICA": order.replica,
    }
