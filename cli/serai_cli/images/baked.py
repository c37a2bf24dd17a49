"""The Dockerfile of an exported version. Pure."""

import json

from serai.errors import ConfigError
from serai.model import Version
from serai.runtime_options import runtime_options
from serai.sharing import processes

HOME = "/opt/serai"
USER = "65534:65534"
PORT = 8000
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def dockerfile(version: Version, base: str) -> str:
    """Return what makes an image of a predictor's version that serves on $PORT.

    Its context holds `environment`, `bundle` and `config.json`. Nothing is run and nothing fetched.
    Raises ConfigError for a version that such a file cannot express.
    """
    predictor = version.content.predictor
    if predictor is None:
        raise ConfigError(
            f"{version.name} of {version.api} has no predictor to export; "
            "a pod of containers is made of images already"
        )
    first = PORT
    last = first + processes(version) - 1
    command = [
        *(f"{HOME}/environment/bin/python", "-m", "serai_runtime"),
        f"{HOME}/bundle/{predictor.path}",
        *("--host", "0.0.0.0"),
        *("--processes", str(processes(version))),
        *("--config", f"{HOME}/config.json"),
        *("--project-dir", f"{HOME}/bundle"),
        *runtime_options(version),
    ]
    lines = [
        f"FROM {base}",
        *(f"COPY {name} {HOME}/{name}" for name in ("environment", "bundle", "config.json")),
        *(f"ENV {name}={_quoted(name, value)}" for name, value in _environment(version).items()),
        f'LABEL serai.api="{version.api}" serai.version="{version.name}"',
        f"USER {USER}",
        f"EXPOSE {first}" if first == last else f"EXPOSE {first}-{last}",
        "STOPSIGNAL SIGTERM",
        "CMD []",
        f"ENTRYPOINT {json.dumps(command)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _environment(version: Version) -> dict[str, str]:
    """Return the variables as a replica has them, but for those that its node decides."""
    content = version.content
    variables = {
        "PATH": f"{HOME}/environment/bin:{SYSTEM_PATH}",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **({} if content.compute.gpu else {"CUDA_VISIBLE_DEVICES": ""}),
        **content.env,
    }
    if told := content.env.get("PYTHONPATH"):
        folders = (one for one in told.split(":") if one)
        variables["PYTHONPATH"] = ":".join(
            one if one.startswith("/") else f"{HOME}/bundle/{one}" for one in folders
        )
    return {**variables, "PORT": str(PORT), "SERAI_API": version.api, "SERAI_VERSION": version.name}


def _quoted(name: str, value: str) -> str:
    """Return a value in which Docker finds nothing to replace."""
    if "\n" in value or "\r" in value:
        raise ConfigError(f"env {name} has a line break, which an image's variables cannot hold")
    for special in ("\\", '"', "$"):
        value = value.replace(special, f"\\{special}")
    return f'"{value}"'
