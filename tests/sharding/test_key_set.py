from hypothesis import given
from hypothesis import strategies as st

from sharding.key_set import KeySet


@given(st.lists(st.text(max_size=3)))
def test_it_says_what_a_set_says(keys: list[str]) -> None:
    seen: set[str] = set()
    tested = KeySet()
    for key in keys:
        assert tested.add(key) == (key not in seen)
        seen.add(key)
        assert len(tested) == len(seen)


def test_it_still_knows_every_key_after_growing() -> None:
    tested = KeySet()
    assert all(tested.add(str(number)) for number in range(5000))
    assert not any(tested.add(str(number)) for number in range(5000))
    assert len(tested) == 5000
