"""What the docker driver's failures mean; the words are those of Nomad 1.6.1 and docker 20.10."""

import pytest

from serai_scheduler.nomad.driver_words import in_words

PULL = "Failed to pull `registry.example/team/model:3`: "


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            f"{PULL}API error (404): manifest for registry.example/team/model:3 not found: "
            "manifest unknown: manifest unknown",
            "there is no image registry.example/team/model:3;",
        ),
        (
            f'{PULL}API error (500): Head "http://registry.example/v2/": no basic auth credentials',
            "refuses to give it",
        ),
        (
            f"{PULL}API error (404): pull access denied for team/model, repository does not exist "
            "or may require 'docker login': denied",
            "refuses to give it",
        ),
        (f"{PULL}context deadline exceeded", "did not arrive in its time"),
        (f"{PULL}image pull aborted due to inactivity", "did not arrive in its time"),
        (
            f"{PULL}write /var/lib/docker/tmp/x: no space left on device",
            "its node has no room for registry.example/team/model:3",
        ),
        (
            f'{PULL}API error (500): Get "https://registry.example/v2/": dial tcp: lookup '
            "registry.example: no such host",
            "cannot be reached: tcp: lookup registry.example: no such host",
        ),
        (
            "Failed to create container: container config is invalid: API error (400): invalid "
            'mount config for type "bind": bind source path does not exist: /srv/models',
            "its node has no /srv/models to mount",
        ),
        (
            "Failed to start container 4a: API error (500): driver failed programming external "
            "connectivity on endpoint replica (ab): Error starting userland proxy: listen tcp4 "
            "127.0.0.1:25000: bind: address already in use",
            "port 25000 of its node is taken by a program that Nomad does not know",
        ),
        (
            "Failed to start container 4a: API error (500): driver failed programming external "
            "connectivity on endpoint replica (ab): Bind for 10.0.0.1:25000 failed: port is "
            "already allocated",
            "port 25000 of its node is taken",
        ),
        (
            'failed to setup alloc: pre-run hook "alloc_dir" failed: mkdir /var/lib/nomad/alloc/x: '
            "no space left on device",
            "the disk of its node is full; make room there (failed to setup alloc:",
        ),
        ("Downloading image", "its image is being pulled"),
        ("Docker image pull progress: Pulled 0/1", "its image is being pulled: Pulled 0/1"),
    ],
)
def test_a_known_failure_is_told_plainly(message: str, words: str) -> None:
    assert words in in_words(message)


@pytest.mark.parametrize("message", ["", "something new", f"{PULL}something new"])
def test_an_unknown_one_stays_as_it_is(message: str) -> None:
    assert in_words(message) == message
