"""What is told is JSON, whatever the numbers are."""

import json

from polyprag.serving.telling import ToldResponse, event


def test_numbers_that_json_has_not_are_null() -> None:
    told = {"logprob": float("-inf"), "top": [float("nan"), -0.5], "text": "Łódź"}
    expected = {"logprob": None, "top": [None, -0.5], "text": "Łódź"}
    assert json.loads(event(told).removeprefix("data: ")) == expected
    assert json.loads(bytes(ToldResponse(told).body)) == expected
    assert event("[DONE]") == "data: [DONE]\n\n"
