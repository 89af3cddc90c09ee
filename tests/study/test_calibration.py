"""Calibration, temperature and coverage, each against a case worked by hand or a plain loop."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional as F

import mnist_lab as lab
from mnist_lab.study import calibration

CONFIDENCES = st.sampled_from([0.2, 0.35, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0])
ANSWERS = st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=40)


def told(answers: list[tuple[float, bool]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and probabilities that say 0 with these confidences, rightly or not."""
    confidences, right = zip(*answers, strict=True)
    first = torch.tensor(confidences, dtype=torch.float64)[:, None]
    return 1 - torch.tensor(right).long(), torch.cat([first, ((1 - first) / 9).expand(-1, 9)], 1)


def test_a_bin_holds_its_upper_edge_and_an_empty_bin_is_left_out():
    answers = told([(0.5, True), (0.5, False), (0.9, True), (1.0, True)])
    table = calibration.reliability(*answers, bins=2)
    first, second = ([*lab.wilson_interval(n, 2)] for n in (1, 2))
    assert table.to_numpy().tolist() == pytest.approx(
        np.array([[0, 0.5, 2, 0.5, 0.5, *first], [0.5, 1, 2, 0.95, 1, *second]])
    )
    assert calibration.reliability(*answers, bins=5)["low"].tolist() == pytest.approx([0.4, 0.8])


@settings(deadline=None, max_examples=40)
@given(ANSWERS, st.integers(1, 20))
def test_the_calibration_error_is_the_plain_loops_over_bins(answers, bins):
    expected, edges = 0.0, np.linspace(0, 1, bins + 1)
    for low, high in itertools.pairwise(edges):
        inside = [(c, hit) for c, hit in answers if low < c <= high]
        if inside:
            gap = np.mean([hit for _, hit in inside]) - np.mean([c for c, _ in inside])
            expected += len(inside) / len(answers) * abs(gap)
    found = calibration.expected_calibration_error(*told(answers), bins)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_logits_takes_the_calibration_error_away(true):
    generator = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(5000, 10, generator=generator, dtype=torch.float64)
    labels, logits = torch.multinomial(z.softmax(1), 1, generator=generator).flatten(), true * z
    temperature = calibration.fit_temperature(labels, logits)
    assert temperature == pytest.approx(true, rel=0.08)
    for dtype in (torch.float64, torch.float16):  # as kept predictions are
        cooled = lab.probabilities(logits / temperature).to(dtype)
        assert calibration.expected_calibration_error(labels, cooled) < 0.03


@pytest.mark.parametrize("scale", [0.01, 1, 50])
def test_no_temperature_fits_worse_than_1_or_falls_outside_its_range(scale):
    labels = torch.arange(30) % 7
    logits = scale * torch.randn(30, 10, generator=torch.Generator().manual_seed(0)).double()
    temperature = calibration.fit_temperature(labels, logits)
    assert 0.01 <= temperature <= 100
    assert F.cross_entropy(logits / temperature, labels) <= F.cross_entropy(logits, labels)
    assert calibration.fit_temperature(torch.tensor([3, 4]), torch.zeros(2, 10)) == 1.0
    assert calibration.fit_temperature(torch.arange(10), torch.eye(10)) < 0.1


@settings(deadline=None, max_examples=15)
@given(ANSWERS, st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 1.0]))
def test_the_coverage_curve_counts_what_its_thresholds_let_through(answers, error_rate):
    curve = calibration.coverage_curve(*told(answers))
    assert curve["threshold"].tolist() == [math.inf, *sorted({c for c, _ in answers}, reverse=True)]
    most = 0
    for row in curve.itertuples(index=False):
        given = [hit for c, hit in answers if c >= row.threshold]
        assert (row.answered, row.errors) == (len(given), given.count(False))
        assert row.coverage == len(given) / len(answers)
        assert calibration.answered_at(*told(answers), row.threshold)[:4] == tuple(row)[:4]
        if given and given.count(False) / len(given) <= error_rate:
            most = len(given)
    assert calibration.coverage_at(*told(answers), error_rate).answered == most


def test_one_error_in_ten_thousand_is_allowed_but_not_that_the_surest_answer_is_wrong():
    found = calibration.coverage_at(*told([(0.9, True)] * 9_999 + [(0.9, False)]), error_rate=1e-4)
    assert (found.answered, found.errors, found.coverage) == (10_000, 1, 1.0)
    found = calibration.coverage_at(*told([(0.9, False), (0.8, True)]))
    assert (found.threshold, found.answered, found.coverage) == (math.inf, 0, 0)
    assert math.isnan(found.error_rate) and found.error_rate_high == 1


@pytest.mark.parametrize(("answered", "errors"), [(10, 0), (9_000, 0), (200, 3), (3, 3)])
def test_at_its_bound_so_few_errors_have_a_probability_of_5_percent(answered, errors):
    answers = [(0.9, False)] * errors + [(0.9, True)] * (answered - errors)
    high = calibration.answered_at(*told(answers), 0.5).error_rate_high
    assert stats.binom.cdf(errors, answered, high) == pytest.approx(1 if high == 1 else 0.05)


@pytest.mark.parametrize("ask", [calibration.reliability, calibration.coverage_at])
def test_logits_in_place_of_probabilities_and_what_does_not_fit_the_labels_are_refused(ask):
    with pytest.raises(ValueError, match=r"off by 9: logits\?"):
        ask(torch.tensor([0, 1]), torch.ones(2, 10))
    for function in (ask, calibration.fit_temperature):
        with pytest.raises(ValueError, match=r"finite numbers of shape \[3, 10\]"):
            function(torch.tensor([0, 1, 2]), torch.ones(2, 10))
