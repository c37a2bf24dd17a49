"""`serai image build`: the image in which a cluster's predictors run."""

import shutil
import tempfile
from pathlib import Path

from serai.cache_names import image_interpreter
from serai.errors import ConfigError
from serai_cli.exits import DONE
from serai_cli.images.root import MIRROR, find_debootstrap, make_root, suite_of
from serai_cli.output import note, write

DOCKERFILE = Path(__file__).with_name("Dockerfile")


def build(tag: str, python: str, debootstrap: bool, base: str, mirror: str) -> int:
    """Make the image on this machine's dockerd and say what to set for it."""
    from serai_cli.images.dockerd import connected

    check_tag(tag)
    if debootstrap:
        suite_of(python)
        if base:
            raise ConfigError("--base is for the Dockerfile; --debootstrap starts from nothing")
        find_debootstrap()
    with connected() as dockerd, tempfile.TemporaryDirectory(prefix="serai-image-") as work:
        folder = Path(work)
        if debootstrap:
            note("making a root with debootstrap: this takes a minute")
            dockerd.import_root(make_root(folder, python, mirror or MIRROR), tag)
        else:
            shutil.copyfile(DOCKERFILE, folder / "Dockerfile")
            arguments = {"PYTHON": python, **({"BASE": base} if base else {})}
            dockerd.build(folder, tag, arguments)
        platform = dockerd.platform_of(tag, image_interpreter(python))
    write(
        [
            f"made {tag}: Python {python} on {platform}",
            f'for the cluster: predictor_image = "{tag}", platform = "{platform}"; '
            f'for its agents: image_platform = "{platform}"',
        ]
    )
    return DONE


def check_tag(tag: str) -> None:
    """Raise ConfigError for a tag that Nomad would pull at each start, or that is none."""
    name, _, label = tag.rpartition(":")
    if not name or not label or "/" in label:
        raise ConfigError(f"{tag} has no tag; give one, such as {tag}:1")
    if label == "latest":
        raise ConfigError(f"{tag}: `latest` is pulled anew at every start; give a tag of its own")
