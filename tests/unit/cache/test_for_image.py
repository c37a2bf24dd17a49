"""How uv calls the platform of an image."""

import pytest

from serai.errors import ConfigError
from serai_agent.cache.for_image import uv_platform


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ("linux-x86_64-glibc-2.36", "x86_64-manylinux_2_36"),
        ("linux-aarch64-glibc-2.31", "aarch64-manylinux_2_31"),
        ("linux-x86_64-glibc-2.41", "x86_64-manylinux_2_40"),
    ],
)
def test_a_platform_is_one_of_uv(platform: str, name: str) -> None:
    assert uv_platform(platform) == name


@pytest.mark.parametrize(
    "platform", ["", "linux-x86_64-", "darwin-arm64-", "linux-s390x-glibc-2.36"]
)
def test_others_are_refused(platform: str) -> None:
    with pytest.raises(ConfigError, match="expected a platform"):
        uv_platform(platform)
