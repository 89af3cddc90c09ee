"""Calibration, temperature and coverage, each against a case worked by hand or a plain loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import mnist_lab as lab
from mnist_lab import calibration


def sure(confidences: list[float]) -> torch.Tensor:
    """Probabilities that say 0 with these confidences, the rest spread evenly."""
    first = torch.tensor(confidences, dtype=torch.float64)
    return torch.cat([first[:, None], ((1 - first) / 9)[:, None].expand(-1, 9)], dim=1)


def labels_of(right: list[bool]) -> torch.Tensor:
    return torch.tensor([0 if hit else 1 for hit in right])


ANSWERS = st.lists(
    st.tuples(st.sampled_from([0.2, 0.35, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0]), st.booleans()),
    min_size=1,
    max_size=40,
)


def taken_apart(answers: list[tuple[float, bool]]) -> tuple[torch.Tensor, torch.Tensor]:
    confidences, right = zip(*answers, strict=True)
    return labels_of(list(right)), sure(list(confidences))


def noisy(count: int = 400, scale: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels drawn from softmax(z) and logits scale·z: calibrated at temperature ``scale``."""
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(count, 10, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(z, 1), 1, generator=generator).flatten()
    return labels, scale * z


def test_a_bin_holds_its_upper_edge_and_an_empty_bin_is_left_out():
    labels = labels_of([True, False, True, True])
    table = calibration.reliability(labels, sure([0.5, 0.5, 0.9, 1.0]), bins=2)
    assert table[["low", "high", "count"]].values.tolist() == [[0, 0.5, 2], [0.5, 1, 2]]
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert table["confidence"].tolist() == pytest.approx([0.5, 0.95])
    bounds = table[["accuracy_low", "accuracy_high"]].values.tolist()
    assert bounds == [list(lab.wilson_interval(1, 2)), list(lab.wilson_interval(2, 2))]
    five = calibration.reliability(labels, sure([0.5, 0.5, 0.9, 1.0]), bins=5)
    assert five["low"].tolist() == pytest.approx([0.4, 0.8])


def test_the_calibration_error_of_a_case_worked_by_hand():
    # Of four answers, two at 0.5 are right half the time; two at 0.9 are always right: 2/4 · 0.1.
    labels = labels_of([True, False, True, True])
    found = calibration.expected_calibration_error(labels, sure([0.5, 0.5, 0.9, 0.9]))
    assert found == pytest.approx(0.05)


@settings(deadline=None, max_examples=60)
@given(ANSWERS, st.integers(1, 20))
def test_the_calibration_error_is_the_plain_loops_over_bins(answers, bins):
    labels, probabilities = taken_apart(answers)
    expected = 0.0
    for place in range(bins):
        low, high = np.linspace(0, 1, bins + 1)[[place, place + 1]]
        inside = [(c, hit) for c, hit in answers if low < c <= high]
        if inside:
            gap = np.mean([hit for _, hit in inside]) - np.mean([c for c, _ in inside])
            expected += len(inside) / len(answers) * abs(gap)
    found = calibration.expected_calibration_error(labels, probabilities, bins)
    assert found == pytest.approx(expected, abs=1e-12)
    assert calibration.reliability(labels, probabilities, bins)["count"].sum() == len(answers)


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_logits_is_found_again(true):
    labels, logits = noisy(5000, scale=true)
    assert calibration.fit_temperature(labels, logits) == pytest.approx(true, rel=0.08)


def test_the_right_temperature_takes_the_calibration_error_away():
    labels, logits = noisy(5000, scale=3.0)
    before = calibration.expected_calibration_error(labels, lab.probabilities(logits))
    cooled = logits / calibration.fit_temperature(labels, logits)
    after = calibration.expected_calibration_error(labels, lab.probabilities(cooled))
    assert before > 0.1 and after < 0.03


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 30),
    st.floats(0.01, 50),
    st.integers(0, 10_000),
    st.sampled_from([torch.float16, torch.float32, torch.float64]),
)
def test_no_temperature_fits_worse_than_1_or_falls_outside_its_range(count, scale, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator)
    logits = (scale * torch.randn(count, 10, generator=generator)).to(dtype)
    temperature = calibration.fit_temperature(labels, logits)
    fitted = F.cross_entropy(logits.double() / temperature, labels)
    assert 0.01 <= temperature <= 100
    assert fitted <= F.cross_entropy(logits.double(), labels)


def test_logits_that_say_nothing_keep_temperature_1():
    assert calibration.fit_temperature(torch.tensor([3, 4]), torch.zeros(2, 10)) == 1.0


def test_without_an_error_the_temperature_makes_the_network_surer():
    assert calibration.fit_temperature(torch.arange(10), torch.eye(10)) < 0.1


def test_logits_that_are_not_finite_are_refused():
    logits = torch.zeros(2, 10)
    logits[1, 3] = math.inf
    with pytest.raises(ValueError, match="expected finite logits, found 1"):
        calibration.fit_temperature(torch.tensor([1, 2]), logits)


def test_the_coverage_curve_of_a_case_worked_by_hand_ties_together():
    labels = labels_of([True, False, True, True, False])
    curve = calibration.coverage_curve(labels, sure([0.9, 0.8, 0.8, 0.99, 0.5]))
    assert curve["threshold"].tolist() == [0.99, 0.9, 0.8, 0.5]
    assert curve["answered"].tolist() == [1, 2, 4, 5]
    assert curve["coverage"].tolist() == [0.2, 0.4, 0.8, 1.0]
    assert curve["errors"].tolist() == [0, 0, 1, 2]
    assert curve["error_rate"].tolist() == [0, 0, 1 / 4, 2 / 5]
    assert curve["accuracy"].tolist() == [1, 1, 3 / 4, 3 / 5]


@settings(deadline=None, max_examples=60)
@given(ANSWERS)
def test_the_coverage_curve_counts_what_its_thresholds_let_through(answers):
    labels, probabilities = taken_apart(answers)
    curve = calibration.coverage_curve(labels, probabilities)
    assert curve["threshold"].tolist() == sorted({c for c, _ in answers}, reverse=True)
    for row in curve.itertuples():
        given = [hit for c, hit in answers if c >= row.threshold]
        assert (row.answered, row.errors) == (len(given), given.count(False))
        at = calibration.answered_at(labels, probabilities, row.threshold)
        assert (at.answered, at.errors, at.error_rate) == (row.answered, row.errors, row.error_rate)
    assert curve["coverage"].iloc[-1] == 1


@settings(deadline=None, max_examples=60)
@given(ANSWERS, st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 1.0]))
def test_no_threshold_answers_more_within_the_error_rate(answers, error_rate):
    labels, probabilities = taken_apart(answers)
    found = calibration.coverage_at(labels, probabilities, error_rate)
    allowed = [0]
    for threshold, _ in answers:
        given = [hit for c, hit in answers if c >= threshold]
        if given.count(False) / len(given) <= error_rate:
            allowed.append(len(given))
    assert found.answered == max(allowed)
    assert found.coverage == max(allowed) / len(answers)
    assert found.answered == 0 or found.error_rate <= error_rate


def test_one_error_in_exactly_ten_thousand_answers_is_allowed():
    labels = labels_of([True] * 9_999 + [False])
    found = calibration.coverage_at(labels, sure([0.9] * 10_000), error_rate=1e-4)
    assert (found.answered, found.errors, found.coverage) == (10_000, 1, 1.0)


def test_nothing_is_answered_when_the_surest_answer_is_wrong():
    found = calibration.coverage_at(labels_of([False, True]), sure([0.9, 0.8]), 1e-4)
    assert (found.threshold, found.answered, found.coverage) == (math.inf, 0, 0)
    assert math.isnan(found.error_rate) and found.error_rate_high == 1


@pytest.mark.parametrize("answered", [10, 300, 9_000])
def test_without_an_error_the_bound_is_1_minus_the_nth_root_of_5_percent(answered):
    found = calibration.answered_at(labels_of([True] * answered), sure([0.9] * answered), 0.5)
    assert found.error_rate == 0
    assert found.error_rate_high == pytest.approx(1 - 0.05 ** (1 / answered))
    assert found.error_rate_high < 3 / answered


def test_at_its_bound_so_few_errors_have_a_probability_of_5_percent():
    answered, errors = 200, 3
    labels = labels_of([False] * errors + [True] * (answered - errors))
    high = calibration.answered_at(labels, sure([0.9] * answered), 0.5).error_rate_high
    few = sum(
        math.comb(answered, k) * high**k * (1 - high) ** (answered - k) for k in range(errors + 1)
    )
    assert few == pytest.approx(0.05, rel=1e-6)


def test_when_all_answers_are_wrong_nothing_bounds_the_error_rate():
    found = calibration.answered_at(labels_of([False] * 3), sure([0.9] * 3), 0.5)
    assert (found.error_rate, found.error_rate_high) == (1, 1)


def test_codes_are_read_whole_or_not_at_all():
    # 8 of 10 digits answered, 1 of these wrong: c = 0.8, e = 1/8.
    right = [False] + [True] * 9
    confidences = [0.9] * 8 + [0.4] * 2
    codes = calibration.code_read_rate(labels_of(right), sure(confidences), 0.5)
    assert codes.digits == 6 and codes.digit.answered == 8
    assert codes.read == pytest.approx(0.8**6)
    assert codes.wrong == pytest.approx(1 - (7 / 8) ** 6)
    assert codes.wrong_high == pytest.approx(1 - (1 - codes.digit.error_rate_high) ** 6)
    single = calibration.code_read_rate(labels_of(right), sure(confidences), 0.5, digits=1)
    assert (single.read, single.wrong) == pytest.approx((0.8, 1 / 8))


def test_codes_drawn_at_random_are_read_as_often_as_the_formula_says():
    generator = np.random.default_rng(0)
    answered = generator.random((200_000, 6)) < 0.9
    wrong = answered & (generator.random((200_000, 6)) < 0.02)
    read = answered.all(axis=1)
    right = [False] * 18 + [True] * 982
    codes = calibration.code_read_rate(labels_of(right), sure([0.9] * 900 + [0.4] * 100), 0.5)
    assert codes.digit.error_rate == 0.02
    assert read.mean() == pytest.approx(codes.read, abs=0.005)
    assert wrong[read].any(axis=1).mean() == pytest.approx(codes.wrong, abs=0.005)


def test_no_code_is_read_where_no_digit_is_answered():
    codes = calibration.code_read_rate(labels_of([True]), sure([0.9]), 0.95)
    assert codes.read == 0 and math.isnan(codes.wrong) and codes.wrong_high == 1


FUNCTIONS = [
    calibration.reliability,
    calibration.expected_calibration_error,
    calibration.fit_temperature,
    calibration.coverage_curve,
    calibration.coverage_at,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize(("labels", "rows"), [(0, 0), (2, 3)])
def test_nothing_and_unequal_lengths_are_refused(function, labels, rows):
    with pytest.raises(ValueError, match=f"found {labels} labels and {rows} rows"):
        function(torch.zeros(labels, dtype=torch.int64), sure([0.5] * rows))


def test_logits_in_place_of_probabilities_are_noticed():
    with pytest.raises(ValueError, match=r"off by 9: are these logits\?"):
        calibration.reliability(torch.tensor([0, 1]), torch.ones(2, 10))


def test_half_precision_probabilities_are_taken_for_what_they_are():
    labels, logits = noisy(300)
    probabilities = lab.probabilities(logits)
    exact = calibration.expected_calibration_error(labels, probabilities)
    half = calibration.expected_calibration_error(labels, probabilities.half())
    assert half == pytest.approx(exact, abs=0.01)
