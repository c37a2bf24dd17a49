"""A job's name tells its version, and no job of somebody else is taken for ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.consul.services import service_name
from serai.errors import ConfigError
from serai_scheduler.nomad.names import (
    MOST_ID_LENGTH,
    JobName,
    check_prefix,
    job_id,
    parse_id,
)

MOST_SERVICE_LENGTH = 63
"""Nomad refuses a longer one, which would not be a label of DNS."""
PREFIXES = st.from_regex(r"[a-z][a-z0-9]{0,31}", fullmatch=True)
APIS = st.from_regex(r"[a-z]([-a-z0-9]{0,40}[a-z0-9])?", fullmatch=True)
VERSIONS = st.builds(
    lambda number, digest: f"v{number}-{digest}",
    st.integers(1, 10**9),
    st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
)
NAMES = st.builds(JobName, api=APIS, version=VERSIONS)


@given(PREFIXES, NAMES)
def test_a_name_comes_back_and_is_short_enough(prefix: str, name: JobName) -> None:
    made = job_id(prefix, name)
    assert parse_id(prefix, made) == name
    assert len(made) <= MOST_ID_LENGTH
    assert len(service_name(name.api)) <= MOST_SERVICE_LENGTH


@given(PREFIXES, PREFIXES, NAMES)
def test_a_job_belongs_to_one_prefix_only(ours: str, theirs: str, name: JobName) -> None:
    found = parse_id(ours, job_id(theirs, name))
    assert (found == name) == (ours == theirs) and (found is None) == (ours != theirs)


@given(PREFIXES, NAMES, NAMES)
def test_two_versions_never_share_a_job(prefix: str, one: JobName, other: JobName) -> None:
    assert (job_id(prefix, one) == job_id(prefix, other)) == (one == other)


@given(PREFIXES, st.text())
def test_any_text_is_either_not_ours_or_exactly_a_name(prefix: str, text: str) -> None:
    found = parse_id(prefix, text)
    assert found is None or job_id(prefix, found) == text


@pytest.mark.parametrize(
    "job",
    [
        "serai-agent",
        "serai-scheduler",
        "serai",
        "serai-",
        "serai-iris--v7",
        "serai-iris--v7-3f9c21a",
        "serai-iris--v07-3f9c21ab",
        "serai-iris--v7-3F9C21AB",
        "serai-iris--v7-3f9c21ab\n",
        "serai-iris---v7-3f9c21ab",
        "serai---v7-3f9c21ab",
        "seraiiris--v7-3f9c21ab",
        "Serai-iris--v7-3f9c21ab",
        "serai-" + 43 * "a" + "--v7-3f9c21ab",
        "serai-iris--v" + 120 * "7" + "-3f9c21ab",
    ],
)
def test_what_somebody_else_made_is_not_ours(job: str) -> None:
    assert parse_id("serai", job) is None


def test_an_api_may_hold_what_stands_before_a_version() -> None:
    name = JobName(api="a--v1-00000000--b", version="v2-11111111")
    assert parse_id("serai", "serai-a--v1-00000000--b--v2-11111111") == name


@pytest.mark.parametrize("prefix", ["", "serai-two", "Serai", "1serai", "serai\n", 33 * "a"])
def test_a_prefix_that_would_not_tell_our_jobs_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="job prefix"):
        check_prefix(prefix)


def test_a_name_that_could_not_be_read_back_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a job"):
        job_id("serai", JobName(api="iris", version="7"))
