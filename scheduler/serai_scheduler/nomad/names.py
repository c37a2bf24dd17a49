"""What a version's job is called, and which jobs are Serai's. Pure."""

import re
from dataclasses import dataclass

from serai.errors import ConfigError
from serai.model import VERSION_DIGEST_LENGTH, Version

MOST_PREFIX_LENGTH = 32
MOST_API_LENGTH = 42
MOST_ID_LENGTH = 128
"""Nomad itself sets no limit; a longer id is never made, and one that is longer is not ours."""

_PREFIX = re.compile(r"[a-z][a-z0-9]*")
_API = r"[a-z](?:[-a-z0-9]*[a-z0-9])?"
_VERSION = rf"v[1-9][0-9]*-[0-9a-f]{{{VERSION_DIGEST_LENGTH}}}"
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_REPLICA = re.compile(rf"(?P<api>{_API})\.(?P<version>{_VERSION})\.(?P<number>{_NUMBER.pattern})")
_REST = re.compile(rf"(?P<api>{_API})--(?P<version>{_VERSION})")


@dataclass(frozen=True)
class JobName:
    """What a job's id tells: `version` is its name, such as `v7-3f9c21ab`."""

    api: str
    version: str


def job_name(version: Version) -> JobName:
    """Return the name of a version's job, whatever the prefix."""
    return JobName(api=version.api, version=version.name)


def job_id(prefix: str, name: JobName) -> str:
    """Return a job's id; raise ConfigError for a prefix or name that `parse_id` would not know."""
    check_prefix(prefix)
    made = f"{prefix}-{name.api}--{name.version}"
    if parse_id(prefix, made) != name:
        raise ConfigError(f"{name.api} {name.version} cannot be the name of a job")
    return made


def parse_id(prefix: str, job: str) -> JobName | None:
    """Return what a job's id tells, None for a job that is not ours.

    A prefix holds no `-`, so that no other Serai's prefix can begin with ours and a `-`. The name
    of a version holds no `--`, so that the last one ends the API's name, which may hold some.
    """
    if len(job) > MOST_ID_LENGTH or not job.startswith(f"{prefix}-"):
        return None
    found = _REST.fullmatch(job.removeprefix(f"{prefix}-"))
    if found is None or len(found["api"]) > MOST_API_LENGTH:
        return None
    return JobName(api=found["api"], version=found["version"])


def replica_id(name: JobName, number: int) -> str:
    """Return the id of a replica: what a job tells its tasks by `replica_template`."""
    return f"{name.api}.{name.version}.{number}"


def replica_template(version: Version) -> str:
    """Return what Nomad makes the id of a replica from, in each of its groups."""
    return f"{version.api}.{version.name}.${{NOMAD_GROUP_NAME}}"


def number_of(text: str) -> int | None:
    """Return the number that a group, or the end of a replica's id, is; None for another text."""
    return int(text) if _NUMBER.fullmatch(text) else None


def parse_replica(replica: str) -> tuple[JobName, int] | None:
    """Return what a replica's id tells, None for an id that is not of that form."""
    found = _REPLICA.fullmatch(replica)
    if found is None or len(found["api"]) > MOST_API_LENGTH:
        return None
    return JobName(api=found["api"], version=found["version"]), int(found["number"])


def check_prefix(prefix: str) -> None:
    """Raise ConfigError unless the prefix tells our jobs from all others."""
    if len(prefix) > MOST_PREFIX_LENGTH or not _PREFIX.fullmatch(prefix):
        raise ConfigError(
            f"job prefix {prefix!r}: expected lower-case letters and digits, beginning with a"
            f" letter, at most {MOST_PREFIX_LENGTH} characters"
        )
