"""Stored answers, the tables that are computed from them alone, and recipes in words."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import mnist_lab as lab
from mnist_lab.files import LabError
from mnist_lab.study import descriptions, predictions, shifts

LABELS = torch.arange(10).repeat_interleave(100)


def answered(*by_seed: dict[int, tuple[int, int]], network: str = "A") -> predictions.Predictions:
    """Trainings that are right but for the first ``n`` images of a digit, read as another one."""
    said = LABELS.repeat(len(by_seed), 1)
    for seed, wrong in enumerate(by_seed):
        for digit, (count, other) in wrong.items():
            said[seed, 100 * digit : 100 * digit + count] = other
    logits, seeds = 9.0 * torch.eye(10)[said], torch.arange(len(by_seed))
    return predictions.Predictions(network, seeds, logits, LABELS, logits[0], LABELS)


def test_predictions_are_read_back_as_they_were_and_nothing_else_is(tmp_path):
    kept, path = answered({1: (3, 7)}, {}), tmp_path / "kept.npz"
    np.savez_compressed(path, **kept.arrays())
    read = predictions.read_predictions(path)
    for name, value in vars(kept).items():
        found = getattr(read, name)
        assert found == value if name == "network" else torch.equal(found, value)
    np.savez_compressed(path, **kept.arrays() | {"labels": np.zeros(7, np.uint8)})
    with pytest.raises(LabError, match=r"kept.npz does not hold predictions.*\(2, 7, 10\)"):
        predictions.read_predictions(path)


def test_a_digit_is_low_only_if_it_is_with_every_seed():
    both = answered({2: (30, 7), 9: (20, 4)}, {2: (40, 7), 5: (90, 6)})
    assert predictions.low_recalls(both) == ([2, 5], ["2"])
    assert predictions.low_recalls(answered({}, {})) == ([0, 0], [])


def test_mistakes_are_summed_over_seeds_and_shown_for_each():
    table = predictions.confusions_by_seed(answered({3: (5, 8)}, {3: (2, 8), 4: (6, 9)}))
    assert table.to_numpy().tolist() == [[3, 8, 7, 5, 2], [4, 9, 6, 0, 6]]
    assert list(table)[3:] == ["seed 0", "seed 1"]


def test_differences_in_recall_have_a_worst_and_a_best_seed():
    changed = answered({1: (10, 7)}, {1: (30, 7), 2: (10, 7)})
    table = predictions.recall_differences(answered({}, {}), changed)
    assert list(table) == ["digit", "as it is", "changed", "difference", "worst", "best"]
    assert table.loc[1].tolist() == pytest.approx([1, 1, 0.8, -0.2, -0.3, -0.1])
    assert table.loc[2].tolist() == pytest.approx([2, 1, 0.95, -0.05, -0.1, 0])


def test_intervals_of_accuracies_stay_within_0_and_1():
    two, one = predictions.score_table([answered({1: (90, 7)}, {}), answered({})]).to_dict(
        "records"
    )
    assert (two["low"], two["high"]) == (pytest.approx(0.955 - 0.5718, abs=1e-3), 1)
    assert np.isnan([one["low"], one["high"]]).all()


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
    steps = [("scaling", 1.0, 0.9), ("scaling", 0.8, 0.4), ("noise", 0.0, 0.9), ("noise", 0.2, 0.6)]
    table = pd.DataFrame(steps, columns=["kind", "strength", "accuracy"]).assign(model="A")
    means = shifts.mean_over_steps(table)
    assert list(means) == ["kind", "A"]
    assert means.to_numpy().tolist() == [["scaling", 0.4], ["noise", 0.6]]


def test_recipes_in_words_name_what_they_change_and_layers_their_parameters():
    recipes = [lab.REPORT_A, lab.REPORT_B, lab.FAST]
    a, b, fast = descriptions.recipe_table(recipes).to_dict("records")
    assert (a["optimiser"], a["augmentation"]) == ("SGD, lr 0.14", "none")
    assert a["layers"].startswith("conv 1→10 5×5, max-pool, conv 10→20 5×5")
    assert "flipped left-right (p 0.5)" in b["augmentation"]
    assert fast["inputs"] == "20×20, −0.1307, /0.3081" and "one cycle" in fast["optimiser"]
    table = descriptions.layer_table(lab.REPORT_A.build())
    assert table["parameters"].sum() == 55_274
    assert table.iloc[0].tolist() == ["input", "1 × 28 × 28", 0]
