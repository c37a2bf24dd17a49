"""Jobs as HCL; that Nomad reads the same job from it is a test on the real one."""

import pytest

from serai_scheduler.nomad.hcl import duration, hcl_of, literal, quoted
from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.settings import JobSettings
from tests.unit.nomad.values import predictor


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", '"plain"'),
        ('a "b" \\ c', '"a \\"b\\" \\\\ c"'),
        ("two\nlines\t", '"two\\nlines\\t"'),
        ("${NOMAD_PORT_http} $${x} %{ if }", '"$${NOMAD_PORT_http} $$${x} %%{ if }"'),
    ],
)
def test_text_is_no_template(text: str, written: str) -> None:
    assert quoted(text) == written


def test_durations_keep_their_value_in_the_largest_unit() -> None:
    found = [duration(int(seconds * 10**9)) for seconds in (0, 0.0000015, 0.2, 90, 600, 7200)]
    assert found == ['"0s"', '"1500ns"', '"200ms"', '"90s"', '"10m"', '"2h"']


def test_values_of_any_depth() -> None:
    assert literal([{"a": [1, True]}, {}, 1.5]) == '[{ "a" = [1, true] }, {}, 1.5]'
    with pytest.raises(TypeError):
        literal(object())


def test_a_key_that_it_does_not_know_is_not_left_out_in_silence() -> None:
    job = job_of(predictor(), (1,), JobSettings())
    assert hcl_of(job).startswith('job "serai-iris--v7-')
    task = job["TaskGroups"][0]["Tasks"][0]
    text = hcl_of(job)
    task |= {"Vault": None, "Kind": "", "Artifacts": [], "Consul": {"Namespace": ""}}
    assert hcl_of(job) == text
    task["Surprise"] = 1
    with pytest.raises(KeyError, match="Surprise"):
        hcl_of(job)
    task["Surprise"] = {"of": {"any": [0]}}
    with pytest.raises(KeyError, match="Surprise"):
        hcl_of(job)


def test_a_job_that_nomad_holds_begins_with_the_index_to_check() -> None:
    held = {**job_of(predictor(), (1,), JobSettings()), "JobModifyIndex": 17}
    assert "`nomad job run -check-index 17 FILE`" in hcl_of(held).partition("\njob ")[0]
