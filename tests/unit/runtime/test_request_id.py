"""Request ids."""

import pytest

from serai_runtime.request_id import RequestIds


def test_a_sane_id_is_taken_over() -> None:
    assert RequestIds().take("abc-1.2:3/4") == "abc-1.2:3/4"


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "a\nb", 'a"b', "é"])
def test_an_odd_one_is_replaced(given: str | None) -> None:
    ids = RequestIds()
    assert ids.take(given) != given
    assert ids.take(given) != ids.take(given)
