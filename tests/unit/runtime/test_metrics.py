"""Metrics as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

from serai_runtime.metrics import Metrics, render


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    text, kind = render(metrics)
    assert kind.startswith("text/plain; version=")
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_requests_latencies_and_batches() -> None:
    metrics = Metrics()
    for status, seconds in [(200, 0.0005), (200, 0.001), (200, 0.3), (500, 1000.0)]:
        metrics.finished(status, seconds)
    metrics.batches.observe(3)
    metrics.in_flight = 2
    found = samples(metrics)
    assert found["serai_runtime_requests_total", "200"] == 3
    assert found["serai_runtime_requests_total", "500"] == 1
    assert found["serai_runtime_request_seconds_bucket", "0.001"] == 2
    assert found["serai_runtime_request_seconds_bucket", "0.5"] == 3
    assert found["serai_runtime_request_seconds_bucket", "+Inf"] == 4
    assert found["serai_runtime_request_seconds_count", ""] == 4
    assert found["serai_runtime_batch_size_bucket", "4.0"] == 1
    assert found["serai_runtime_in_flight_requests", ""] == 2
    assert ("serai_runtime_load_seconds", "") not in found


def test_the_load_time_appears_once_known() -> None:
    metrics = Metrics()
    metrics.load_s = 1.5
    assert samples(metrics)["serai_runtime_load_seconds", ""] == 1.5
