"""HAProxy's log lines added up per API and version. Pure but for its sums."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from serai.report import LATENCY_BOUNDS_MS

FIELDS = 11
LINE_STANDS_FOR = 11
"""How many successes one line stands for where an API has very many requests: a prime, so that
clients who repeat a round of requests do not always meet the same of them."""
CLIENT_GONE = 5
SERVER_FAILED = 4
LEFT = b"left"
"""Said instead of a reason for a refusal: the client hung up while its request was held."""
CUT_SHORT = (b"SD", b"sD")
"""An answer that began and did not come to its end, by the server's doing."""
BEFORE_A_REPLICA = (b"R", b"Q", b"C")
"""Where HAProxy was with a request that ended before it had reached a server: still reading it,
queued, or connecting."""
MOST_NUMBER = 2**50
SETTLING_READS = 3
LINE_IS_LOST_S = 5.0
"""A line that has not come for so long after its request was seen to have gone never comes."""
MOST_KEYS = 4000
KEPT_WORKERS = 64
_BUCKETS = len(LATENCY_BOUNDS_MS) + 1

Key = tuple[str, str]
"""An API and a version of it."""


@dataclass
class Sums:
    """Counters of one API version since the aggregation began.

    What ended is `completions` where it had reached a replica, else `refused`, those included whose
    client left while they waited. `arrivals` is the most that was ever seen ended or under way of
    each HAProxy worker, added up. Those that were first seen while they were held have no version
    and are counted under "" for good.
    """

    arrivals: int = 0
    completions: int = 0
    refused: int = 0
    outcomes: list[int] = field(default_factory=lambda: [0] * 6)
    buckets: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    latency_sum_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass
class _Worker:
    """Which of a HAProxy worker's numbered lines came."""

    lowest: int
    highest: int
    lines: int = 1

    @property
    def lost(self) -> int:
        return max(0, self.highest - self.lowest + 1 - self.lines)


@dataclass
class _Shown:
    ended: int = 0
    most: int = 0
    """How many had ended or were under way, when that were most."""


@dataclass
class _Held:
    counted: int = 0
    """How many have arrived that no version was seen to have since."""
    gone_since_s: float | None = None
    """Since when no request of the API is there, None while there is one."""


class _Arrivals:
    """How many requests have come to each of HAProxy's workers.

    A request ends in the worker that it came to, but for a held one, which a reload hands over.
    Those that a worker took along when it died have arrived, and neither end nor hide what comes
    to the next one.
    """

    def __init__(self) -> None:
        self._shown: dict[int, dict[Key, _Shown]] = {}
        self._held: dict[str, _Held] = {}
        self._asking = False
        self._asked_s = 0.0
        self._ended_since: Counter[tuple[int, Key]] = Counter()
        self._let_go_since: Counter[str] = Counter()

    @contextmanager
    def asking(self, now_s: float) -> Iterator[None]:
        """While HAProxy is asked: what ends meanwhile may yet be among those that it tells of."""
        self._asking, self._asked_s = True, now_s
        self._ended_since.clear()
        self._let_go_since.clear()
        try:
            yield
        finally:
            self._asking = False

    def ended(self, pid: int, key: Key, count: int) -> int:
        """Take in that so many have ended; return how many of them were not seen to arrive."""
        shown = self._of(pid, key)
        shown.ended += count
        if self._asking:
            self._ended_since[pid, key] += count
        return self._more(key, shown, shown.ended)

    def under_way(self, pid: int, key: Key, count: int) -> int:
        """Take in how many are there now; return how many of them were not seen to arrive."""
        shown = self._of(pid, key)
        ended_before = shown.ended - self._ended_since[pid, key]
        return self._more(key, shown, ended_before + count)

    def held(self, api: str, count: int, present: int) -> int:
        """Take in how many are held now; return how many of them were not seen to arrive.

        `present` are all requests of the API. Once there have been none for long enough, what was
        held has ended, though a line of it was lost.
        """
        held = self._held.setdefault(api, _Held())
        if present:
            held.gone_since_s = None
        elif held.gone_since_s is None:
            held.gone_since_s = self._asked_s
        elif self._asked_s - held.gone_since_s >= LINE_IS_LOST_S:
            held.counted = 0
        more = max(0, count - held.counted - self._let_go_since[api])
        held.counted += more
        return more

    def forget_held(self) -> None:
        """Note that what was held ended with its HAProxy."""
        self._held.clear()

    def forget(self, key: Key) -> None:
        """Drop what was seen of an API version."""
        if not key[1]:
            self._held.pop(key[0], None)
        for shown in self._shown.values():
            shown.pop(key, None)

    def _of(self, pid: int, key: Key) -> _Shown:
        if pid not in self._shown and len(self._shown) >= KEPT_WORKERS:
            del self._shown[next(iter(self._shown))]
        return self._shown.setdefault(pid, {}).setdefault(key, _Shown())

    def _more(self, key: Key, shown: _Shown, now: int) -> int:
        # A line of the log may be late, but what has arrived has arrived.
        more = max(0, now - shown.most)
        shown.most += more
        held = self._held.get(key[0])
        if held is None:
            return more
        were_held = min(more, held.counted)
        held.counted -= were_held
        if self._asking:
            self._let_go_since[key[0]] += were_held
        return more - were_held


@dataclass
class _Unanswered:
    """Requests of a slot without an answer: how many are counted, and the latest numbers read."""

    counted: int
    latest: list[int]


class Outcomes:
    """Takes log lines `API|VERSION|STATUS|MS|STATE|IN|OUT|REFUSED|TURN|NUMBER|PID`.

    Each worker numbers its lines, so that missing ones show, whoever dropped them. A line whose
    turn is 0 stands for as many successes (2xx, 3xx) as are not logged beside it; one without a
    turn, and each error, for itself.
    """

    def __init__(self) -> None:
        self.sums: dict[Key, Sums] = {}
        self.lines = 0
        self.damaged = 0
        self._workers: dict[int, _Worker] = {}
        self._arrivals = _Arrivals()
        self._unanswered: dict[str, _Unanswered] = {}
        self._master: int | None = None
        self._lost_before = 0

    @property
    def lost(self) -> int:
        """Return how many lines never came, or came damaged.

        A worker's last lines show as lost only when a later one of it comes.
        """
        return self._lost_before + self.damaged + sum(w.lost for w in self._workers.values())

    def add(self, line: bytes) -> None:
        """Count one line; a damaged one is counted as such."""
        parts = line.rstrip(b"\n").split(b"|")
        if len(parts) == 1:
            return  # a notice of HAProxy about itself
        self.lines += 1
        if len(parts) != FIELDS:
            self.damaged += 1
            return
        try:
            self._number(int(parts[10]), int(parts[9]))
            if parts[0] not in (b"-", b""):  # else a path that nobody has
                self._count(parts)
        except ValueError:
            self.damaged += 1

    def _number(self, pid: int, number: int) -> None:
        worker = self._workers.get(pid)
        if worker is None:
            if len(self._workers) >= KEPT_WORKERS:
                self._lost_before += self._workers.pop(next(iter(self._workers))).lost
            self._workers[pid] = _Worker(number, number)
            return
        worker.lines += 1
        worker.lowest = min(worker.lowest, number)
        worker.highest = max(worker.highest, number)

    def _count(self, parts: list[bytes]) -> None:
        api, version, status, milliseconds, state, received, sent, refused, turn, _, pid = parts
        code, took_ms = int(status), max(int(milliseconds), 0)
        bytes_in, bytes_out = int(received), int(sent)
        if not 0 <= max(took_ms, bytes_in, bytes_out) < MOST_NUMBER:
            raise ValueError("no number that HAProxy would tell")
        weight = LINE_STANDS_FOR if turn == b"0" and 200 <= code <= 399 else 1
        key = api.decode(), version.decode() if version != b"-" else ""
        sums = self.sums_of(*key)
        sums.arrivals += self._arrivals.ended(int(pid), key, weight)
        sums.bytes_in += bytes_in * weight
        sums.bytes_out += bytes_out * weight
        if _reached(state, refused):
            sums.completions += weight
        else:
            sums.refused += weight
        sums.outcomes[_outcome(code, state, refused)] += weight
        sums.buckets[bisect_left(LATENCY_BOUNDS_MS, took_ms)] += weight
        sums.latency_sum_ms += took_ms * weight

    def sums_of(self, api: str, version: str) -> Sums:
        """Return the sums of an API version, new ones at its first request."""
        sums = self.sums.get((api, version))
        if sums is None:
            sums = self.sums[api, version] = Sums()
        return sums

    def add_under_way(self, pid: int, key: Key, count: int) -> None:
        """Take in how many requests of an API version a worker has at once, running and queued."""
        self.sums_of(*key).arrivals += self._arrivals.under_way(pid, key, count)

    def add_held(self, api: str, count: int, present: int) -> None:
        """Take in how many requests of an API are held, and how many it has in all.

        What is under way comes before: a request that was let go is then no new one.
        """
        self.sums_of(api, "").arrivals += self._arrivals.held(api, count, present)

    @contextmanager
    def asking(self, master: int | None, now_s: float) -> Iterator[None]:
        """While HAProxy is asked what is there: lines that come meanwhile race its answer.

        `now_s` is monotonic. `master` says which one it is, None that nobody can say: another one
        has nothing of what was held by the last.
        """
        if master is not None and master != self._master:
            self._arrivals.forget_held()
            self._master = master
        with self._arrivals.asking(now_s):
            yield

    def add_unanswered(
        self, unanswered: Mapping[str, int], owners: Mapping[str, Key], pid: int
    ) -> None:
        """Count requests that ended without an answer and without a line, as failures.

        That is how HAProxy treats a later request of a client's connection whose server closes: it
        closes as well, so that the client repeats it. `unanswered` counts them by slot, from the
        start of the processes; a number counts once it was read a few times, since its parts
        are not read at the same instant. `pid` is the present worker's, to which nearly all came.
        """
        for slot, now in unanswered.items():
            reads = self._unanswered.get(slot)
            if reads is None or now < reads.counted:  # the first look, or a process has ended
                self._unanswered[slot] = _Unanswered(now, [now])
                continue
            reads.latest = [*reads.latest[1 - SETTLING_READS :], now]
            fresh = min(reads.latest) - reads.counted
            if len(reads.latest) == SETTLING_READS and fresh > 0:
                reads.counted += fresh
                if (owner := owners.get(slot)) is not None:
                    sums = self.sums_of(*owner)
                    sums.arrivals += self._arrivals.ended(pid, owner, fresh)
                    sums.completions += fresh
                    sums.outcomes[SERVER_FAILED] += fresh

    def keep(self, wanted: set[Key]) -> None:
        """Drop the oldest sums of what is no longer wanted, once there are very many.

        Never sooner: a version that comes back must not count from zero within the same run.
        """
        surplus = len(self.sums) - MOST_KEYS
        for key in [key for key in self.sums if key not in wanted][: max(0, surplus)]:
            del self.sums[key]
            self._arrivals.forget(key)


def _reached(state: bytes, refused: bytes) -> bool:
    """Say whether a request came to run on a replica; what did not has no time of service."""
    return refused in (b"-", b"") and state[1:2] not in BEFORE_A_REPLICA


def _outcome(code: int, state: bytes, refused: bytes) -> int:
    if state[:1] in (b"C", b"c") or refused == LEFT or not 100 <= code <= 599:
        return CLIENT_GONE
    return SERVER_FAILED if state[:2] in CUT_SHORT else code // 100 - 1
