"""Tables that are computed from stored answers alone."""

import dataclasses
import math

import pytest
import torch

import mnist_lab as lab
from mnist_lab import predictions, shifts, summaries

LABELS = torch.arange(10).repeat_interleave(100)


def answered(*by_seed: dict[int, tuple[int, int]], network: str = "A") -> predictions.Predictions:
    """Trainings that are right but for the first ``n`` images of a digit, read as another one."""
    every = []
    for wrong in by_seed:
        said = LABELS.clone()
        for digit, (count, other) in wrong.items():
            said[torch.eq(LABELS, digit).nonzero().flatten()[:count]] = other
        every.append(9.0 * torch.eye(10)[said])
    logits = torch.stack(every)
    seeds = torch.arange(len(every))
    return predictions.Predictions(network, seeds, logits, LABELS, logits[0], LABELS)


def test_a_digit_is_low_only_if_it_is_with_every_seed():
    both = answered({2: (30, 7), 9: (20, 4)}, {2: (40, 7), 5: (90, 6)})
    assert predictions.low_recalls(both) == ([2, 5], ["2"])
    assert predictions.low_recalls(answered({}, {})) == ([0, 0], [])


def test_mistakes_are_summed_over_seeds_and_shown_for_each():
    table = predictions.confusions_by_seed(answered({3: (5, 8)}, {3: (2, 8), 4: (6, 9)}))
    assert table.to_numpy().tolist() == [[3, 8, 7, 5, 2], [4, 9, 6, 0, 6]]
    assert list(table)[3:] == ["seed 0", "seed 1"]


def test_differences_in_recall_have_a_worst_and_a_best_seed():
    table = predictions.recall_differences(
        answered({}, {}), answered({1: (10, 7)}, {1: (30, 7), 2: (10, 7)})
    ).set_index("digit")
    found = table.loc[1, ["as it is", "changed", "difference", "worst", "best"]]
    assert found.tolist() == pytest.approx([1, 0.8, -0.2, -0.3, -0.1])
    assert table.loc[2, "best"] == 0 and table.loc[2, "worst"] == pytest.approx(-0.1)


def test_intervals_of_accuracies_stay_within_0_and_1():
    table = predictions.score_table([answered({1: (90, 7)}, {}), answered({})]).set_index("seeds")
    assert (table.loc[2, "low"], table.loc[2, "high"]) == (
        pytest.approx(0.955 - 0.5718, abs=1e-3),
        1,
    )
    assert math.isnan(table.loc[1, "low"]) and math.isnan(table.loc[1, "high"])


def test_coverage_has_a_row_for_each_rate_of_errors_and_no_bound_without_an_answer():
    mistaken = answered({1: (1, 7)}, network="B")
    surest_is_wrong = mistaken.validation_logits.clone()
    surest_is_wrong[100] *= 2
    mistaken = dataclasses.replace(mistaken, validation_logits=surest_is_wrong)
    table = predictions.coverage_table([answered({}), mistaken])
    assert table["errors allowed"].tolist() == ["1 in 10,000", "1 in 1,000"] * 2
    assert table["answered"].tolist() == [1, 1, 0, 1]
    assert table["error rate below"].isna().tolist() == [False, False, True, False]


def test_a_mean_over_steps_leaves_the_unchanged_images_out():
    def answer(images: torch.Tensor) -> torch.Tensor:
        return torch.eye(10)[(images.flatten(1).float().std(1) < 1).long()]

    images = torch.zeros(4, 28, 28, dtype=torch.uint8)
    kinds = [shifts.find_shift(kind) for kind in ("scaling", "noise")]
    table = shifts.accuracy_under_shift(answer, images, torch.ones(4, dtype=torch.long), kinds)
    means = shifts.mean_over_steps(table.assign(model="A"))
    assert means.to_numpy().tolist() == [["scaling", 1.0], ["noise", 0.0]]
    assert list(means) == ["kind", "A"]


def test_a_recipe_in_words_names_what_it_changes():
    table = summaries.recipe_table([lab.REPORT_A, lab.REPORT_B, lab.FAST]).set_index("network")
    assert table.loc["Report A", "optimiser"] == "SGD, lr 0.14"
    assert table.loc["Report A", "augmentation"] == "none"
    assert "flipped left-right (p 0.5)" in table.loc["Report B", "augmentation"]
    assert table.loc["FAST", "inputs"] == "20×20, −0.1307, /0.3081"
    assert "one cycle" in table.loc["FAST", "optimiser"]
    assert table.loc["Report A", "layers"].startswith("conv 1→10 5×5, max-pool, conv 10→20 5×5")


def test_the_parameters_of_the_layers_sum_to_those_of_the_network():
    model = lab.REPORT_A.build()
    table = summaries.layer_table(model)
    assert table["parameters"].sum() == lab.parameter_count(model) == 55_274
    assert table.iloc[0].tolist() == ["input", "1 × 28 × 28", 0]
