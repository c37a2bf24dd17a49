"""Reports are whole or cut to their limits, and always ones that a scheduler takes."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from serai import wire
from serai.report import (
    GatewayReading,
    GpuReading,
    Gpus,
    NodeReport,
    ReplicaUsage,
    VersionTraffic,
)
from serai.report_accept import accept
from serai_agent.report.beat import Beat, Identity, NodeReading, Parts, assemble, clipped
from tests.unit.report.parts import GATEWAY, GPU, NODE, WHO, parts, server, usage


def assembled(what: Parts, who: Identity = WHO) -> Beat:
    beat = assemble(who, 7, 2000.0, what)
    # Whatever the parts were, the report is one that is taken.
    assert accept(wire.encode(beat.report), lambda node: None) == beat.report
    return beat


def test_the_parts_are_all_in_the_report() -> None:
    beat = assembled(parts(replicas=(usage("a"),), gateway=GATEWAY))
    report = beat.report
    assert beat.left_out == ()
    assert (report.node, report.sequence, report.started_at_s) == ("n1", 7, 1000.0)
    assert (report.sent_at_s, report.roles) == (2000.0, ("gateway", "runner"))
    assert (report.cpu_percent, report.load) == (12.5, (0.5, 0.25, 0.125))
    assert (report.memory_available_bytes, report.disk_free_bytes) == (32 * 2**30, 2**39)
    assert report.gpus == Gpus(readings=(GPU,), driver="570", age_s=0.5)
    assert report.replicas == (usage("a"),)
    assert report.gateway == GATEWAY


def test_what_is_unknown_stays_unknown() -> None:
    unknown = Parts(node=NodeReading(cpu_count=2), gpus=Gpus(problem="no NVIDIA driver"))
    report = assembled(unknown).report
    assert report.cpu_percent is None
    assert report.load is None
    assert report.gpus.age_s is None
    assert report.gateway is None
    assert (report.memory_available_bytes, report.disk_free_bytes) == (0, 0)


def test_a_report_of_an_ordinary_node_is_small() -> None:
    gpus = Gpus(readings=tuple(GPU for _ in range(8)), driver="570", age_s=1.0)
    report = assembled(parts(gpus, tuple(usage(f"iris-{i}") for i in range(10)))).report
    assert len(wire.encode(report)) < 4096


def test_too_many_of_anything_are_cut_and_told() -> None:
    gateway = GatewayReading(
        run="r",
        ready=True,
        read_at_s=7.0,
        versions=tuple(VersionTraffic(api="a", version=str(i)) for i in range(5001)),
        servers=tuple(server(str(i)) for i in range(20_002)),
        revisions={str(i): i for i in range(5003)},
    )
    gpus = Gpus(readings=tuple(GPU for _ in range(65)))
    beat = assembled(parts(gpus, tuple(usage(str(i)) for i in range(2004)), gateway))
    assert beat.left_out == (
        "1 GPUs above 64",
        "4 replicas above 2000",
        "1 gateway versions above 5000",
        "2 gateway servers above 20000",
        "3 route revisions above 5000",
    )
    assert beat.report.gateway is not None
    assert beat.report.gateway.problem == "; ".join(beat.left_out[2:])


def test_long_words_are_cut_but_a_name_is_never_made_another() -> None:
    gpu = msgspec.structs.replace(GPU, problem="p" * 300, name="n" * 300)
    long, fine = usage("r" * 257), usage("r" * 256)
    beat = assembled(parts(Gpus(readings=(gpu,), problem="q" * 999), (long, fine)))
    assert beat.report.replicas == (fine,)
    assert beat.left_out == ("1 replicas with names above 256 characters",)
    assert beat.report.gpus.problem == "q" * 255 + "…"
    assert beat.report.gpus.readings[0].name == "n" * 255 + "…"


def test_a_report_above_its_size_loses_its_gateway_and_keeps_the_rest() -> None:
    wordy = "x" * 250
    versions = tuple(
        VersionTraffic(
            api=wordy, version=f"{i:0250}", latency_buckets=(10**15,) * 31, bytes_in=10**18
        )
        for i in range(5000)
    )
    gateway = GatewayReading(run="r", ready=True, read_at_s=7.0, versions=versions)
    beat = assembled(parts(replicas=(usage("a"),), gateway=gateway))
    assert beat.report.gateway is None
    assert beat.report.replicas == (usage("a"),)
    (told,) = beat.left_out
    assert told.startswith("gateway: the report of ")


def test_clipped() -> None:
    assert clipped("abc", 3) == "abc"
    assert clipped("abcd", 3) == "ab…"


TEXTS = st.text(max_size=400).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))
READINGS = st.builds(
    GpuReading,
    uuid=TEXTS,
    index=st.integers(0, 100),
    name=TEXTS,
    memory_total_bytes=st.none() | st.integers(0, 2**50),
    memory_used_bytes=st.none() | st.integers(0, 2**50),
    utilization_percent=st.none() | st.floats(0, 100),
    temperature_celsius=st.none() | st.floats(-50, 150),
    power_watts=st.none() | st.floats(0, 2000),
    problem=TEXTS,
)
USAGES = st.builds(
    ReplicaUsage,
    replica=TEXTS,
    cpu_cores=st.floats(0, 512),
    memory_bytes=st.integers(0, 2**50),
    processes=st.integers(0, 1000),
)


@settings(max_examples=60, deadline=None)
@given(
    gpus=st.builds(
        Gpus,
        readings=st.lists(READINGS, max_size=5).map(tuple),
        driver=TEXTS,
        problem=TEXTS,
        age_s=st.none() | st.floats(0, 1e6),
    ),
    usages=st.none() | st.lists(USAGES, max_size=5).map(tuple),
    revisions=st.dictionaries(TEXTS, st.integers(0, 2**40), max_size=5),
)
def test_any_parts_make_a_report_that_is_taken(
    gpus: Gpus, usages: tuple[ReplicaUsage, ...] | None, revisions: dict[str, int]
) -> None:
    gateway = GatewayReading(run="r", ready=False, read_at_s=7.0, revisions=revisions)
    what = Parts(node=NODE, gpus=gpus, replicas=usages, gateway=gateway)
    report: NodeReport = assembled(what).report
    assert len(report.gpus.readings) == len(gpus.readings)
