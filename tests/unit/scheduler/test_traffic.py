"""Counters of gateways added up."""

import msgspec

from serai.report import LATENCY_BOUNDS_MS, GatewayReading, ServerTraffic, VersionTraffic
from serai_scheduler.traffic import BUCKETS, FRESH_S, TrafficBook, quantile_ms


def reading(
    run: str = "one", arrivals: int = 0, in_flight: int = 0, revision: int = 1, **counts: int
) -> GatewayReading:
    buckets = [0] * BUCKETS
    buckets[3] = arrivals
    return GatewayReading(
        run=run,
        ready=True,
        read_at_s=0.0,
        revisions={"iris": revision},
        versions=(
            VersionTraffic(
                api="iris",
                version="v1",
                arrivals=arrivals,
                completions=arrivals,
                outcomes=(0, arrivals, 0, 0, 0, 0),
                latency_buckets=tuple(buckets),
                queued=counts.get("queued", 0),
            ),
        ),
        servers=(ServerTraffic(server="iris.v1.1.0", state="up", in_flight=in_flight),),
    )


def test_rates_are_differences_within_the_window() -> None:
    book = TrafficBook()
    for second in range(0, 121):
        book.add("a", reading(arrivals=second * 10), float(second))
    traffic = book.traffic("iris", 120.0)
    assert traffic.requests_per_s is not None and abs(traffic.requests_per_s - 10) < 0.2
    assert traffic.responses_2xx == 1200


def test_a_gateway_that_starts_again_neither_loses_nor_subtracts() -> None:
    book = TrafficBook()
    book.add("a", reading(arrivals=100), 0.0)
    book.add("a", reading(run="two", arrivals=7), 1.0)
    book.add("a", reading(run="two", arrivals=9), 2.0)
    assert book.traffic("iris", 2.0).responses_2xx == 109


def test_what_a_gateway_counted_before_it_was_heard_is_no_traffic_of_now() -> None:
    """A new leader heard of two gateways one after the other, and told a million requests/s."""
    book = TrafficBook()
    for second in range(5):
        book.add("a", reading(arrivals=1_000_000 + second), float(second))
        if second:
            book.add("b", reading(arrivals=2_000_000 + second), float(second))
    traffic = book.traffic("iris", 4.0)
    assert traffic.responses_2xx == 3_000_008, "what was answered is told all the same"
    assert traffic.requests_per_s is not None and 1.5 < traffic.requests_per_s < 2.0
    counted = book.counted("iris", 4.0)
    assert (counted.arrivals, counted.completions) == (7, 7)


def test_what_a_new_run_tells_first_is_a_base_to_count_from() -> None:
    """An agent that had started again took all that ran on its HAProxy for new requests."""
    book = TrafficBook()
    book.add("a", reading(arrivals=100, queued=40), 0.0)
    book.add("a", reading(arrivals=110, queued=40), 1.0)
    before = book.counted("iris", 1.0)
    book.add("a", reading(run="two", arrivals=40, queued=40), 4.0)
    first = book.counted("iris", 4.0)
    assert first.arrivals == before.arrivals == 10
    assert first.told["a"].stretch != before.told["a"].stretch, "what came meanwhile is unknown"
    book.add("a", reading(run="two", arrivals=43, queued=40), 5.0)
    later = book.counted("iris", 5.0)
    assert later.arrivals == 13 and later.told["a"].stretch == first.told["a"].stretch
    assert book.traffic("iris", 5.0).responses_2xx == 153, "the totals have them all"


def test_counters_that_fall_are_a_base_to_count_from() -> None:
    book = TrafficBook()
    ocr = (VersionTraffic(api="ocr", version="v1"),)
    for second, arrivals in enumerate((1000, 1010, 950, 960)):
        told = reading(arrivals=arrivals)
        book.add("a", msgspec.structs.replace(told, versions=told.versions + ocr), float(second))
        counted = book.counted("iris", float(second))
        if second == 1:
            before, other = counted, book.counted("ocr", 1.0)
        assert counted.arrivals == (0, 10, 10, 20)[second]
    assert counted.told["a"].stretch != before.told["a"].stretch
    assert book.counted("ocr", 3.0).told["a"].stretch == other.told["a"].stretch
    assert book.traffic("iris", 3.0).responses_2xx == 1020


def test_a_gateway_that_was_silent_for_long_is_not_counted_twice() -> None:
    book = TrafficBook()
    book.add("a", reading(arrivals=100), 0.0)
    book.add("a", reading(arrivals=110), 1.0)
    assert not book.heard(500.0).readings
    book.add("a", reading(arrivals=150), 501.0)
    assert book.traffic("iris", 501.0).responses_2xx == 150
    assert book.counted("iris", 501.0).arrivals == 10, "nobody knows when the others came"


def test_gateways_add_up() -> None:
    book = TrafficBook()
    book.add("a", reading(in_flight=2, revision=5, queued=1), 0.0)
    book.add("b", reading(in_flight=3, revision=4, queued=2), 0.0)
    view = book.view(1.0)
    assert view.known
    assert view.in_flight == {"iris.v1.1": 5}
    assert view.queued == {("iris", "v1"): 3}
    assert view.revisions == {"iris": 4}, "the slowest gateway counts"


def test_a_silent_gateway_makes_the_view_unknown() -> None:
    book = TrafficBook()
    book.add("a", reading(), 0.0)
    book.add("b", reading(), FRESH_S + 1)
    assert not book.view(FRESH_S + 1).known


def test_no_gateway_is_not_an_idle_gateway() -> None:
    view = TrafficBook().view(0.0)
    assert not view.known and view.revisions == {}


def test_quantiles_lie_within_their_bucket() -> None:
    buckets = [0] * BUCKETS
    assert quantile_ms(tuple(buckets), 0.5) is None
    buckets[5], buckets[-1] = 99, 1
    p50 = quantile_ms(tuple(buckets), 0.5)
    assert p50 is not None and LATENCY_BOUNDS_MS[4] < p50 <= LATENCY_BOUNDS_MS[5]
    assert quantile_ms(tuple(buckets), 0.999) == LATENCY_BOUNDS_MS[-1]


def test_a_forgotten_api_starts_from_zero() -> None:
    book = TrafficBook()
    book.add("a", reading(arrivals=5), 0.0)
    book.forget("iris")
    assert book.traffic("iris", 1.0).responses_2xx == 0


def test_a_new_leader_knows_nothing_until_every_gateway_has_had_its_time() -> None:
    """It had heard one gateway of two, and would have stopped a replica that the other used."""
    book = TrafficBook(known_from_s=105.0)
    book.add("a", reading(in_flight=2), 101.0)
    assert not book.view(101.0).known and book.view(101.0).in_flight == {"iris.v1.1": 2}
    book.add("a", reading(in_flight=2), 105.0)
    assert book.view(105.0).known


def told(version: str, ended: int, refused: int, took_ms: float) -> VersionTraffic:
    """Return the counters of a version of whose ended requests some were refused."""
    buckets = [0] * BUCKETS
    buckets[3] = ended
    return VersionTraffic(
        api="iris",
        version=version,
        arrivals=ended,
        completions=ended - refused,
        refused=refused,
        latency_buckets=tuple(buckets),
        latency_sum_ms=ended * took_ms,
    )


def gateway(second: int, versions: tuple[VersionTraffic, ...]) -> GatewayReading:
    return GatewayReading(run="one", ready=True, read_at_s=float(second), versions=versions)


def test_refusals_and_the_mean_latency_are_kept_for_each_version() -> None:
    book = TrafficBook()
    for second in range(0, 121):
        versions = (told("v1", 10 * second, 4 * second, 8.0), told("v2", 30 * second, 0, 40.0))
        book.add("a", gateway(second, versions), float(second))
    one, other = (book.traffic("iris", 120.0, version) for version in ("v1", "v2"))
    assert (one.refused, other.refused) == (480, 0)
    assert one.refused_per_s is not None and abs(one.refused_per_s - 4) < 0.1
    assert (one.mean_ms, other.mean_ms, other.refused_per_s) == (8.0, 40.0, 0.0)
    both = book.traffic("iris", 120.0)
    assert (both.refused, both.mean_ms) == (480, 32.0)
    assert TrafficBook().traffic("iris", 0.0).mean_ms is None


def test_refusals_that_fall_are_a_base_to_count_from() -> None:
    book = TrafficBook()
    for second, refused in enumerate((5, 9, 2, 3)):
        versions = (told("v1", 100 + refused, refused, 8.0),)
        book.add("a", gateway(second, versions), float(second))
    assert book.traffic("iris", 3.0).refused == 5 + 4 + 1
