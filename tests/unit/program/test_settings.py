"""Which configurations of a scheduler are used, and what is said of the others."""

import os
from pathlib import Path

import pytest

from serai.config import load_config, read_config
from serai.errors import ConfigError
from serai.listening import is_loopback
from serai_scheduler.program.prepare import prepare
from serai_scheduler.program.settings import (
    BlobsLie,
    SchedulerConfig,
    check_config,
    check_tokens,
)
from tests.support.examples import unsaid

EXAMPLE = Path(__file__).parents[3] / "scheduler" / "scheduler.example.toml"
LEAST = 'data_dir = "/d"\ngateway_url = "http://g:8080"\n'
TOKENS = '[tokens]\nadmin = "/a"\nagent = "/b"\n'


def config(top: str = "", tables: str = TOKENS) -> SchedulerConfig:
    return read_config(LEAST + top + "\n" + tables, SchedulerConfig)


def test_the_example_can_be_used() -> None:
    found = load_config(EXAMPLE, SchedulerConfig)
    check_config(found)
    assert found.platform == "x86_64-manylinux_2_36"
    assert found.address == "https://scheduler-1.example:7070"
    assert found.names == {"127.0.0.1", "localhost", "::1", "0.0.0.0", "serai.example"} | {
        "scheduler-1.example"
    }
    assert found.blobs_lie is BlobsLie.SHARED


def test_the_example_has_every_key() -> None:
    assert unsaid(EXAMPLE, SchedulerConfig) == {"consul.token", "nomad.token"}, "files hold those"


def test_what_is_not_said_follows_from_the_rest() -> None:
    found = config()
    check_config(found)
    assert found.address == "http://127.0.0.1:7070"
    assert found.blobs_url == "/d/blobs" and found.blobs_lie is BlobsLie.LEADER
    six = config(tables=f'{TOKENS}[listen]\nhost = "::1"\n')
    assert six.address == "http://[::1]:7070" and "::1" in six.names
    local = config('blobs = "file:///srv/blobs/"')
    assert local.blobs_url == "/srv/blobs" and local.blobs_lie is BlobsLie.LEADER


THREE = 'peers = ["https://s1:7070", "https://s2:7070/", "https://s3:7070"]'


def test_with_peers_a_majority_holds_the_blobs() -> None:
    found = config(f"{ADVERTISED}\n{THREE}", TOKENS + SECURE)
    check_config(found)
    assert found.blobs_lie is BlobsLie.MAJORITY
    assert found.others == ("https://s2:7070", "https://s3:7070")
    alone = config(f'{ADVERTISED}\npeers = ["https://s1:7070/"]', TOKENS + SECURE)
    check_config(alone)
    assert alone.blobs_lie is BlobsLie.LEADER and alone.others == ()


ANYWHERE = '[listen]\nhost = "0.0.0.0"\n'
SECURE = '[listen]\nhost = "0.0.0.0"\ncertificate = "/c"\nkey = "/k"\n'
ADVERTISED = 'advertise = "https://s1:7070"'


@pytest.mark.parametrize(
    ("top", "tables", "said"),
    [
        ("", "", "tokens.admin: name a file"),
        (ADVERTISED, TOKENS + ANYWHERE, "listen: beyond this machine (0.0.0.0) it needs TLS"),
        (ADVERTISED, '[tokens]\nadmin = "/a"\n' + SECURE, "tokens.agent: name a file"),
        (ADVERTISED, SECURE, "tokens.admin: name a file"),
        ("", TOKENS + SECURE, "advertise: it listens on all addresses"),
        ('advertise = "http://s1:7070"', TOKENS + SECURE, "use https://"),
        ('advertise = "s1:7070"', TOKENS, "advertise: 's1:7070' is no URL"),
        ('advertise = "https://s1:x"', TOKENS, "is no URL"),
        ('advertise = "https://s1:7070/path"', TOKENS, "nothing behind them"),
        ("", TOKENS + '[listen]\nkey = "/k"\n', "a certificate needs its key"),
        ("", TOKENS + '[consul]\ntoken = "x"\n', "consul.token: put the token into a file"),
        ("", TOKENS + '[nomad]\ntoken = "x"\n', "nomad.token: put the token into a file"),
        ("", TOKENS + '[consul]\nprefix = "serai"\n', "consul.prefix: 'serai' should end in a /"),
        ("", TOKENS + '[jobs]\nnamespace = "ml"\n', "is not nomad.namespace 'default'"),
        ("", TOKENS + '[jobs]\nprefix = "my-ml"\n', "job prefix 'my-ml'"),
        ("", TOKENS + '[jobs]\nplatform = "solaris"\n', "predictors.platform: it does not follow"),
        ("", TOKENS + "[lease]\nmargin_s = 12.0\n", "lease: margin_s 12 should lie between"),
        ("", TOKENS + "[lease]\nttl_s = 0.0\n", "lease: margin_s"),
        ("", TOKENS + '[predictors]\npython = "3"\n', "predictors.python: '3' is no version"),
        ('blobs = "blobs"', TOKENS, "blobs: 'blobs' is neither an absolute path"),
        ('blobs = "s3:bucket"', TOKENS, "blobs: 's3:bucket' is neither"),
        ('blobs = "s3:///"', TOKENS, "blobs: 's3:///' is neither"),
        ('peers = ["s2:7070"]', TOKENS, "peers: 's2:7070' is no URL"),
        (
            f'{ADVERTISED}\npeers = ["https://s1:7070", "http://s2:7070"]',
            TOKENS + SECURE,
            "peers: http://s2:7070 is not https",
        ),
        (
            'advertise = "https://s9:7070"\n' + THREE,
            TOKENS + SECURE,
            "peers: this scheduler's own address https://s9:7070 is not among them",
        ),
        (
            f'{ADVERTISED}\npeers = ["https://s1:7070", "https://s1:7070/"]',
            TOKENS + SECURE,
            "peers: one of them stands there twice",
        ),
        (
            f'{ADVERTISED}\nblobs = "s3://a/b"\n{THREE}',
            TOKENS + SECURE,
            "peers: the blobs lie in s3://a/b",
        ),
        ('autoscaling = {policies = "mine"}', TOKENS, "autoscaling.policies: 'mine' should be"),
        ('autoscaling = {prometheus = "p:9090"}', TOKENS, "autoscaling.prometheus: 'p:9090' is no"),
        ('mount_roots = ["models"]', TOKENS, "mount_roots: 'models' should be an absolute path"),
        ('mount_roots = ["/srv/../etc"]', TOKENS, "mount_roots"),
        ('mount_roots = ["/"]', TOKENS, "mount_roots"),
        ("", TOKENS + "[listen]\nport = 0\n", "listen.port: expected `int` >= 1"),
        ("", TOKENS + "[lisen]\nport = 1\n", "lisen: unknown key; did you mean `listen`?"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(top: str, tables: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(config(top, tables))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["data_dir", "gateway_url"])
def test_a_few_keys_have_no_default(name: str) -> None:
    lines = [line for line in LEAST.splitlines() if not line.startswith(name)]
    with pytest.raises(ConfigError, match=f"missing required field `{name}`"):
        read_config("\n".join(lines), SchedulerConfig)


def test_insecure_waives_tokens_and_tls() -> None:
    check_config(config(f"insecure = true\n{ADVERTISED}", ANYWHERE))
    check_config(config("insecure = true", ""))


def test_which_addresses_only_this_machine_reaches() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("", "*", "0.0.0.0", "::", "10.0.0.1", "s1"))


def test_tokens_that_guard_nothing_are_refused() -> None:
    check_tokens("a" * 16, "b" * 16)
    check_tokens("", "")
    with pytest.raises(ConfigError, match=r"tokens\.admin: the token has 5 characters"):
        check_tokens("short", "b" * 16)
    with pytest.raises(ConfigError, match="each agent could deploy"):
        check_tokens("a" * 16, "a" * 16)


def files(folder: Path, **contents: str) -> str:
    for name, text in contents.items():
        (folder / name).write_text(text)
    return f'[tokens]\nadmin = "{folder}/admin"\nagent = "{folder}/agent"\n'


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    tokens = files(tmp_path, admin="a" * 20, agent="b" * 20, bad="no certificate")
    bad, none = tmp_path / "bad", tmp_path / "none"
    prepared = prepare(config(tables=tokens))
    assert prepared.access.admin == "a" * 20 and prepared.serving is None
    for more, said in (
        (f'[consul]\ntoken_file = "{none}"\n', "the token for Consul"),
        (f'[nomad]\ntoken_file = "{none}"\n', "the token for Nomad"),
        (
            f'[listen]\ncertificate = "{bad}"\nkey = "{bad}"\n',
            f"listen.certificate: cannot use {bad}",
        ),
        (f'[listen]\ncertificate = "{none}"\nkey = "{bad}"\n', "No such file"),
        (f'[consul]\ntls = true\nca = "{none}"\n', "consul.ca: cannot use"),
        (f'[nomad]\ntls = true\nca = "{bad}"\n', "nomad.ca: cannot use"),
        (f'[nomad]\ntls = true\ncertificate = "{bad}"\n', "nomad: a certificate needs its key"),
        (
            f'[consul]\ntls = true\ncertificate = "{bad}"\nkey = "{bad}"\n',
            f"consul.certificate: cannot use {bad} with the key {bad}: ",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            prepare(config('advertise = "https://s1:7070"', tokens + more))
        assert said in str(caught.value)
    for ca in (bad, none):
        with pytest.raises(ConfigError, match="peers_ca: cannot use"):
            prepare(config(f'peers_ca = "{ca}"', tokens))
    os.unlink(tmp_path / "admin")
    with pytest.raises(ConfigError, match="cannot read the admin's token"):
        prepare(config(tables=tokens))


def test_without_a_token_everybody_may_do_everything_only_when_told_so() -> None:
    assert prepare(config("insecure = true", "")).access.admin is None
