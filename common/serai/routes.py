"""What the leader orders of every gateway: one Route per API, and the servers of the registry."""

from serai.model import Value

ROUTES = "routes/"
"""The prefix of the routes' keys in the store; the name of the API follows."""
SHARE_WHOLE = 1000
HELD_AT_ONCE = 1000
"""So many requests of an API may wait at a gateway while nothing of it is ready, or `queue_limit`
if that is more: the queue is measured for replicas that serve, not for any yet to start."""
QUEUE_TIMEOUT_CLASSES_S = (1, 5, 30, 120)


class VersionShare(Value):
    """A version's part of the traffic, in thousandths; a version at 0 is provisioned all the same.

    The shares of a route's versions add up to 1000, or there is no version at all.
    """

    version: str
    share: int


class Route(Value):
    """How requests for one API are taken, queued, limited and spread; times are seconds.

    `endpoint` starts with `/` and does not end with one; the prefix is removed before a replica
    sees the path. `queue_limit` counts waiting requests beyond what the ready servers take at
    once, while any is ready. `hold_limit_s` is how long a request waits for a first ready replica.
    `draining` names the replicas that get no new requests. `revision` rises with every change of
    this route; orders with an `epoch` lower than one seen before are refused.
    """

    api: str
    endpoint: str
    versions: tuple[VersionShare, ...]
    queue_limit: int
    queue_timeout_s: int
    hold_limit_s: int
    first_byte_s: float
    idle_s: float
    total_s: float
    body_max_bytes: int
    retry: str
    draining: tuple[str, ...]
    retry_after_s: int
    revision: int
    epoch: int
