"""Configuration files: what is read, and what is said of what is wrong."""

from pathlib import Path

import pytest

from serai.config import load_config, read_config, read_secret
from serai.errors import ConfigError
from serai.model import Value


class Inner(Value):
    host: str = "127.0.0.1"
    port: int = 1


class Example(Value):
    name: str
    inner: Inner = Inner()
    maybe: Inner | None = None
    several: tuple[str, ...] = ()


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text('name = "a"\nseveral = ["x", "y"]\n[inner]\nport = 7\n')
    wanted = Example(name="a", inner=Inner(port=7), several=("x", "y"))
    assert load_config(path, Example) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('nam = "a"', "nam: unknown key; did you mean `name`? allowed: name, inner, maybe"),
        ('name = "a"\n[inner]\nprt = 1', "inner.prt: unknown key; did you mean `port`?"),
        ('name = "a"\n[maybe]\nhots = "b"', "maybe.hots: unknown key; did you mean `host`?"),
        ('name = "a"\n[inner]\nport = "x"', "inner.port: expected `int`, got `str`"),
        ('name = "a"\nother = 1', "other: unknown key; allowed: name, inner"),
        ("", "the file: object missing required field `name`"),
        ("name = ", "not valid TOML: Invalid value (at "),
        ("a = " + "[" * 5000, "not valid TOML: "),
    ],
)
def test_what_is_wrong_is_told_with_its_key(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(text, Example)
    assert str(caught.value).startswith(said)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary, large = tmp_path / "binary", tmp_path / "large"
    binary.write_bytes(b"\xff")
    large.write_bytes(b"#" * (2**20 + 1))
    told = {tmp_path / "none": "cannot read", binary: "not text in UTF-8", large: "at most 1048576"}
    for path, said in told.items():
        with pytest.raises(ConfigError, match=said) as caught:
            load_config(path, Example)
        assert str(path) in str(caught.value)


def test_a_secret_is_the_only_word_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  abc\n")
    assert read_secret(str(path), "the token") == "abc"
    assert read_secret("", "the token") == ""
    for wrong in ("", "two words"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match="nothing else"):
            read_secret(str(path), "the token")
    with pytest.raises(ConfigError, match="cannot read the token"):
        read_secret(str(tmp_path / "none"), "the token")
