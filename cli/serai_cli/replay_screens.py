"""What `replay` shows: figures side by side, and a plot of demand and replicas. Pure."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from serai.report import DEMAND_SLOT_S
from serai_cli.tables import PLAIN, Column, Look, table
from serai_cli.text import cells, printable
from serai_scheduler.replay.answer import Replay, ReplayRow

COLUMNS = (
    Column("policy"),
    Column("late", right=True),
    Column("late %", right=True),
    Column("replica-hours", right=True),
    Column("changes", right=True),
    Column("most", right=True),
)
PLOT_WIDTH = 60
PLOT_LEAST = 20
BARS = " ▁▂▃▄▅▆▇█"
DEMAND = "demand"
EXPLAINED = (
    "All rows are simulated, `as recorded` with the counts that really stood. Requests come at"
    " random within the 10 s",
    "in which they were counted and run for exponential times of the mean recorded around them"
    " (fixed seed); how long one",
    "takes does not grow with load. Starts take as long as was usual then; no replica fails, no"
    " node is full. Late: waited",
    "more than 5 s, refused or never started. Hours: starting, ready and draining replicas.",
)
METRIC_LEFT_OUT = (
    "The API scales by a metric too (`autoscaling.metric`). Its values are not recorded, so it is"
    " left out: but for",
    "`as recorded`, every row goes by requests alone, and may have fewer replicas than there would"
    " have been.",
)


def replayed(answer: Replay, asked_since_s: float, look: Look = PLAIN) -> list[str]:
    """Return the whole answer; `asked_since_s` is from when on it was asked for."""
    later = answer.since_s - asked_since_s > DEMAND_SLOT_S
    from_when = " (nothing is kept from before)" if later else ""
    return [
        f"{answer.api} from {_moment(answer.since_s)} to {_moment(answer.until_s)}{from_when}:"
        f" {answer.requests} requests of {answer.service_s:.3g} s in the mean, starts of"
        f" {answer.start_up_s:.3g} s",
        "",
        *table(COLUMNS, [_row(one) for one in answer.rows], look),
        "",
        *_plot(answer, look),
        "",
        *EXPLAINED,
        *(METRIC_LEFT_OUT if answer.metric_left_out else ()),
    ]


def _row(one: ReplayRow) -> list[str]:
    return [
        one.policy,
        str(one.late),
        f"{one.late_percent:.2f}",
        f"{one.replica_hours:.2f}",
        str(one.changes),
        str(one.most_replicas),
    ]


def _plot(answer: Replay, look: Look) -> list[str]:
    """Return a row of bars for the demand and for each policy, all on one scale."""
    names = [DEMAND, *(printable(one.policy) for one in answer.rows)]
    series: list[Sequence[float]] = [answer.demand, *(one.replicas for one in answer.rows)]
    left = max(cells(name) for name in names)
    room = look.width - left - 4 if look.width else PLOT_WIDTH
    width = max(PLOT_LEAST, min(PLOT_WIDTH, room))
    columns = [_columns(each, width) for each in series]
    top = max((max(each, default=0.0) for each in columns), default=0.0)
    rows = [
        f"{name}{' ' * (left - cells(name))}  {_bars(each, top)}"
        for name, each in zip(names, columns, strict=True)
    ]
    return [f"replicas over time, the highest bar is {top:.3g}", *rows]


def _columns(values: Sequence[float], width: int) -> list[float]:
    """Return the highest value in each of at most so many equal parts of the time."""
    count = min(width, len(values))
    edges = [len(values) * place // count for place in range(count + 1)] if count else []
    return [max(values[low:high]) for low, high in pairwise(edges)]


def _bars(values: Sequence[float], top: float) -> str:
    most = len(BARS) - 1
    # What is there at all is to be seen.
    return "".join(
        BARS[max(value > 0, round(most * value / top)) if top else 0] for value in values
    )


def _moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s).astimezone():%m-%d %H:%M}"
