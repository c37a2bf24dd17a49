"""What a replay tells."""

from serai.model import Value


class ReplayRow(Value):
    """What one policy made of the traffic.

    `late` are the requests that waited more than 5 s, were refused or never started. Hours are of
    replicas that start, are ready or drain; `replicas` is the most of these by ten seconds.
    """

    policy: str
    late: int
    late_percent: float
    replica_hours: float
    changes: int
    most_replicas: int
    replicas: tuple[int, ...]


class Replay(Value):
    """Recorded traffic of an API under several policies (times: wall clock, since 1970).

    `service_s` is how long a request ran in the mean, `start_up_s` how long a start takes of late;
    `demand` is how many replicas it keeps busy if no request waits, by ten seconds.
    `metric_left_out` says that the API scales by a metric as well, which no replay knows.
    """

    api: str
    since_s: float
    until_s: float
    requests: int
    service_s: float
    start_up_s: float
    demand: tuple[float, ...]
    rows: tuple[ReplayRow, ...]
    metric_left_out: bool = False
