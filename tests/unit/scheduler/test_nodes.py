"""What is told of nodes, by their reports and by the engine."""

from serai.engine import EngineNode
from serai_scheduler.nodes import NodeBook, skew_s
from tests.support.scheduling import report


def test_a_node_that_never_reported_says_what_to_look_at() -> None:
    book = NodeBook()
    book.add(report(1), 10.0)
    nodes = (
        EngineNode(name="one", takes=True),
        EngineNode(name="two", takes=True),
        EngineNode(name="down", takes=False, reason="down"),
    )
    told = {one.node: (one.state, one.reason) for one in book.statuses(11.0, nodes)}
    assert told["one"] == ("up", "") and told["down"] == ("silent", "down")
    assert told["two"][0] == "silent" and "with the agents' token? See its log" in told["two"][1]
    assert book.statuses(11.0)[0].reason == "the engine does not know it"


def test_by_how_much_a_clock_is_ahead_is_told_however_old_its_report() -> None:
    book = NodeBook()
    book.add(report(1), 10.0)  # sent at 2.0 by the clock of its node
    for later_s in (0.0, 60.0):
        (one,) = book.statuses(10.0 + later_s)
        assert skew_s(one, 1.5 + later_s) == 0.5
    (silent,) = NodeBook().statuses(0.0, [EngineNode(name="two", takes=True)])
    assert skew_s(silent, 1.0) is None
