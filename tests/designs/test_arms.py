from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.designs.arms import PLACE, deal, in_turn, nested_names, of_district


@given(st.integers(0, 200), st.integers(0, 200), st.lists(st.floats(0.01, 20), min_size=1, max_size=5))
@settings(deadline=None, derandomize=True)
def test_in_turn_begins_as_fewer_units_do_and_stays_near_everyones_share(m: int, n: int, weights: list[float]) -> None:
    labels = in_turn(n, weights)
    assert labels[:m] == in_turn(m, weights)[:n]
    seen = np.array([np.cumsum([x == label for x in labels]) for label in range(len(weights))])
    due = np.outer(weights, np.arange(1, n + 1)) / sum(weights)
    assert (np.abs(seen - due) < len(weights)).all()
    if len(weights) == 2:
        assert (np.abs(seen - due) < 1 + 1e-9).all()


def test_arms_of_equal_weight_take_turns_nested_or_not() -> None:
    assert deal(7, [1, 1], nested=True) == deal(7, [1, 1], nested=False) == [0, 1, 0, 1, 0, 1, 0]


def test_nested_names_stay_when_districts_get_more_units_or_there_are_more_districts() -> None:
    small, large = np.repeat([0, 1], 3), np.repeat([0, 1, 2], 5)
    kept = [i for d in range(2) for i in range(d * 5, d * 5 + 3)]
    np.testing.assert_array_equal(nested_names(large)[kept], nested_names(small))
    assert len(set(nested_names(large))) == 15


def test_too_many_units_for_their_names_message() -> None:
    nested_names(np.repeat([0], PLACE + 1))
    with pytest.raises(ValueError, match="at most 40,000 villages or training groups a district"):
        nested_names(np.repeat([0, 1], PLACE + 1))


def test_a_district_has_numbers_of_its_own_however_many_another_takes() -> None:
    def numbers(taken: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=[1, 2]))
        of_district(rng, 0, nested=True).random(taken)
        found: np.ndarray = of_district(rng, 1, nested=True).random(5)
        return found

    np.testing.assert_array_equal(numbers(3), numbers(50))
    first = of_district(np.random.Generator(np.random.Philox(key=[1, 2])), 0, nested=True).random(5)
    assert not (first == numbers(3)).any()
