"""Headers as a predictor sees them."""

from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from serai_runtime.incoming import headers_of


def test_a_header_that_comes_twice_keeps_all_its_values_in_order() -> None:
    headers = CIMultiDict([("X-Forwarded-For", "9.9.9.9"), ("x-forwarded-for", "127.0.0.1")])
    request = make_mocked_request("GET", "/", headers=headers)
    assert headers_of(request) == {"x-forwarded-for": "9.9.9.9, 127.0.0.1"}
