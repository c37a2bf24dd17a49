"""When each metric is asked for, and for how long an answer counts."""

from serai_scheduler.autoscale.metric.answers import Answer
from serai_scheduler.autoscale.metric.book import (
    ASK_EVERY_S,
    OLD_AFTER_S,
    MetricBook,
    Question,
)
from serai_scheduler.autoscale.metric.need import NO_ANSWER_YET, Reading

IRIS = Question("iris", "sum(jobs)")


def following(now_s: float = 0.0, **metrics: str) -> MetricBook:
    book = MetricBook()
    book.follow(now_s, metrics or {"iris": IRIS.promql})
    return book


def test_one_is_asked_at_once_and_then_every_quarter_of_a_minute() -> None:
    book, asked_s = following(100.0), []
    for tenth in range(1000, 2000):
        if (question := book.next(tenth / 10)) is not None:
            assert question == IRIS
            asked_s.append(tenth / 10)
            book.take(tenth / 10, question, Answer(1.0))
    assert asked_s == [100.0 + ASK_EVERY_S * turn for turn in range(7)]


def test_one_that_is_asked_late_keeps_its_place_in_time() -> None:
    book = following(100.0)
    asked_s = []
    for now_s in (104.0, 114.0, 115.0, 129.0, 130.0, 200.0, 214.0, 215.0):
        if (question := book.next(now_s)) is not None:
            asked_s.append(now_s)
            book.take(now_s, question, Answer(1.0))
    assert asked_s == [104.0, 115.0, 130.0, 200.0, 214.0], "whole turns that were missed are gone"


def test_many_that_come_at_once_are_spread() -> None:
    book = following(0.0, **{f"api{number}": "up" for number in range(300)})
    counts = []
    for second in range(60):
        counts.append(0)
        while (question := book.next(float(second))) is not None:
            book.take(float(second), question, Answer(1.0))
            counts[-1] += 1
    assert set(counts[1:]) <= {19, 20, 21}, "20 a second, never 300 at once"


def test_one_that_is_asked_is_not_asked_again_and_keeps_nobody_waiting() -> None:
    book = following(0.0, slow="a", quick="b")
    first = book.next(0.0)
    assert first == Question("slow", "a")
    for second in range(10, 200, 10):
        book.next(float(second))
    assert book.next(0.0) is None
    book.take(200.0, first, None)
    assert book.next(200.0) == first, "given up is asked anew"
    late = following(0.0, one="a", other="b")
    assert [late.next(8.0), late.next(8.0)] == [Question("one", "a"), Question("other", "b")]


def test_an_answer_counts_for_a_minute_whatever_fails_then() -> None:
    book = following(0.0)
    assert book.reading(5.0, "iris") == Reading(None, NO_ANSWER_YET, 5.0)
    book.take(10.0, IRIS, Answer(7.0))
    book.take(30.0, IRIS, Answer(None, "it hangs"))
    assert book.reading(10.0 + OLD_AFTER_S, "iris") == Reading(7.0)
    assert book.reading(80.0, "iris") == Reading(None, "it hangs", 70.0)
    book.take(90.0, IRIS, Answer(2.0))
    assert book.reading(91.0, "iris") == Reading(2.0)
    assert book.reading(200.0, "iris") == Reading(None, NO_ANSWER_YET, 110.0)
    assert book.reading(0.0, "ocr").value is None


def test_another_query_begins_anew_and_answers_to_the_old_one_are_left_out() -> None:
    book = following(0.0)
    assert book.next(0.0) == IRIS
    book.take(0.0, IRIS, Answer(7.0))
    book.follow(1.0, {"iris": "sum(other)"})
    assert book.reading(1.0, "iris").value is None
    book.take(2.0, IRIS, Answer(8.0))
    assert book.reading(2.0, "iris").value is None
    assert book.next(2.0) == Question("iris", "sum(other)")
    book.follow(3.0, {})
    book.take(3.0, Question("iris", "sum(other)"), Answer(1.0))
    assert book.reading(3.0, "iris").value is None and book.next(900.0) is None
