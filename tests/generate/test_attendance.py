from __future__ import annotations

import itertools

import numpy as np
import pytest
from everything import BY_DAY, dated, with_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import NAMES, STREAMS, THREE_ARMS, allocate, never_in_a_window, within_mcse
from pydantic import ValidationError
from scipy import stats

from sim.generate.attendance import days_attended, draw_days

PROBABILITY = st.floats(0.02, 0.99)
AVAILABILITY = st.lists(st.floats(0.1, 1.0), min_size=1, max_size=4).map(tuple)


@given(PROBABILITY, AVAILABILITY)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_independent_days_against_enumeration(per_day: float, availability: tuple[float, ...]) -> None:
    expected = np.zeros(len(availability) + 1)
    for attends in itertools.product((0, 1), repeat=len(availability)):
        p = [per_day * a if yes else 1 - per_day * a for yes, a in zip(attends, availability, strict=True)]
        expected[sum(attends)] += np.prod(p)
    np.testing.assert_allclose(days_attended(per_day, 0.0, availability), expected, atol=1e-12)


@given(PROBABILITY, st.floats(0, 0.98), AVAILABILITY)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_days_have_their_own_probabilities_whatever_the_correlation(
    per_day: float, correlation: float, availability: tuple[float, ...]
) -> None:
    number = days_attended(per_day, correlation, availability)
    assert number.sum() == pytest.approx(1, abs=1e-9) and (number > -1e-12).all()
    assert number @ np.arange(len(number)) == pytest.approx(per_day * sum(availability), abs=1e-9)


@pytest.mark.parametrize("correlation", [0.1, 0.5, 0.95])
def test_two_days_against_the_bivariate_normal(correlation: float) -> None:
    limit = stats.norm.ppf([0.85, 0.85 * 0.6])
    both = stats.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]]).cdf(limit)
    assert days_attended(0.85, correlation, (1.0, 0.6))[2] == pytest.approx(both, abs=1e-6)


def test_draws_against_theory() -> None:
    a, replicate = allocate("individual", districts=1, participants_per_district=60), np.arange(2000, dtype=np.int32)
    availability = np.where(a.member[:, None] % 2 == 0, [1.0, 1.0, 1.0], [0.9, 0.3, 1.0])
    days = draw_days(0.8, 0.6, availability, a, STREAMS, replicate)
    for half, row in enumerate([(1.0, 1.0, 1.0), (0.9, 0.3, 1.0)]):
        for number, share in enumerate(days_attended(0.8, 0.6, row)):
            within_mcse((days[:, a.member % 2 == half] == number).mean(axis=1), share)
    np.testing.assert_array_equal(draw_days(0.8, 0.6, availability, a, STREAMS, replicate[5:8]), days[5:8])
    always = draw_days(1.0, 0.6, np.ones((60, 3)), a, STREAMS, replicate[:5])
    assert (always == 3).all()


def test_expected_dose_by_arm_is_that_of_the_calendar() -> None:
    a = allocate("individual", arms=THREE_ARMS, districts=2)
    m = with_parts(**BY_DAY)
    availability = np.ones((len(a.group_district), 3))
    availability[a.training_group[a.arm == 2]] = (1.0, 0.5, 0.2)
    usual, worse = (m.mean_dose(row) for row in ((1.0, 1.0, 1.0), (1.0, 0.5, 0.2)))
    assert worse < usual == m.mean_dose()
    np.testing.assert_allclose(m.expected_dose(a, dated(a, availability=availability)), [0, usual, worse], atol=1e-14)
    np.testing.assert_allclose(m.expected_dose(a, never_in_a_window(a)), [0, usual, usual], atol=1e-14)
    np.testing.assert_array_equal(with_parts().expected_dose(a, never_in_a_window(a)), [0, 0.9, 0.9])


def test_whoever_attends_some_days_gets_the_declared_share_of_the_gain() -> None:
    a = allocate("individual", districts=2)
    m = with_parts(**BY_DAY, sd_effect_district="0 SD", demand_inflation="0 SD")
    schedule, replicate = dated(a), np.arange(300, dtype=np.int32)
    score = m.generate(NAMES, np.array([0.5, 0.4]), a, schedule, STREAMS, replicate).score
    gain = (score[0, 0] - score[0, 1])[:, a.is_trained, 2] / 0.5
    for number, share in enumerate((0.0, 0.4, 0.9, 1.0)):
        within_mcse(np.isclose(gain, share).mean(axis=1), days_attended(0.85, 0.5, (1.0,) * 3)[number])
    assert np.isclose(gain[..., None], [0, 0.4, 0.9, 1.0]).any(axis=2).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attendance": None}, "give it or, day by day"),
        ({**BY_DAY, "attendance": "90%"}, "not both"),
        ({**BY_DAY, "gain_by_days": None}, "is missing; attendance by day needs it"),
        ({**BY_DAY, "attendance_correlation": -0.2}, "greater than or equal to 0"),
        ({**BY_DAY, "gain_by_days": {"1": "40%", "3": "100%"}}, "none left out"),
        ({**BY_DAY, "gain_by_days": {"1": "140%"}}, "less than or equal to 1"),
    ],
)
def test_message(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        with_parts(**changes)
