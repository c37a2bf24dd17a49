"""The image in which predictors run, made once by debootstrap and kept for the next test run."""

import fcntl
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import docker
import pytest
from msgspec import json

from serai.cache_names import image_interpreter
from serai.model import digest_of
from serai_cli.images.dockerd import Dockerd
from serai_cli.images.root import LEFT_OUT, PACKAGES, SUITES, make_root

PREDICTOR_IMAGE = "serai-predictor:test"
PYTHON = "3.11"
KEPT = Path(__file__).parents[2] / ".cache" / "image"
IMPORT_LIMIT_S = 120


def root_archive() -> Path:
    """Return the archive of a root with Python; a minute the first time, for all processes once."""
    missing = shutil.which("debootstrap") is None or os.geteuid() != 0
    if missing and not os.environ.get("CI"):
        pytest.skip("needs debootstrap and root")
    made_of = json.encode([PACKAGES, asdict(SUITES[PYTHON]), LEFT_OUT])
    archive = KEPT / f"root-{digest_of(made_of)[:16]}.tar"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            work = KEPT / "work"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            make_root(work, PYTHON).rename(archive)
            shutil.rmtree(work)
    return archive


def import_image(address: str) -> str:
    """Give a dockerd the image and return what platform it is."""
    archive = root_archive()
    client = docker.DockerClient(base_url=address, timeout=IMPORT_LIMIT_S)
    try:
        dockerd = Dockerd(client)
        dockerd.import_root(archive, PREDICTOR_IMAGE)
        return dockerd.platform_of(PREDICTOR_IMAGE, image_interpreter(PYTHON))
    finally:
        client.close()
