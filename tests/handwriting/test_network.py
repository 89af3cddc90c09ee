"""The network that reads handwriting, and the file that keeps it."""

import dataclasses

import numpy as np
import pytest
import torch

import mnist_lab as lab
from mnist_lab.handwriting.network import (
    FOLDER,
    DamagedNetwork,
    load_network,
    make_network,
    split_with_copies,
    threshold_table,
)
from mnist_lab.study.calibration import coverage_at
from mnist_lab.training import predict

KEPT = FOLDER / "reader.safetensors"


@pytest.fixture(scope="module")
def made(few_digits, tmp_path_factory):
    """A network made in a moment, and its file."""
    path = tmp_path_factory.mktemp("network") / "own.safetensors"
    recipe = lab.FAST.but(name="quick", epochs=2, lr=0.1)
    return make_network(few_digits, recipe, path, copies=1, device="cpu", echo=None), path


def test_the_kept_network_is_small_and_of_the_named_recipe():
    network = load_network()
    assert KEPT.stat().st_size < 2_000_000
    assert network.recipe == lab.READER and network.recipe.name == "READER"
    assert network.made["digits"].startswith("MNIST")


def test_the_kept_network_reads_digits_of_other_writers(uci_digits):
    answers = load_network().answer(uci_digits.test.images.numpy())
    assert answers.shape == (300, 10) and answers.dtype == np.float64
    np.testing.assert_allclose(answers.sum(1), 1)
    assert (answers.argmax(1) == uci_digits.test.labels.numpy()).mean() > 0.93


def test_the_kept_network_reads_mnist(mnist_root):
    test = lab.load_digits("mnist").test
    answers = load_network().answer(test.images[:300].numpy())
    assert (answers.argmax(1) == test.labels[:300].numpy()).mean() > 0.98


def test_a_network_read_back_answers_as_the_one_that_was_made(made, few_digits):
    network, path = made
    again, images = load_network(path), few_digits.test.images.numpy()
    assert again.recipe == network.recipe and again.name == "own"
    assert again.made == network.made and few_digits.digest in again.made["digits"]
    np.testing.assert_array_equal(again.answer(images), network.answer(images))
    assert [again.threshold(a) for a in (0, 0.1)] == [network.threshold(a) for a in (0, 0.1)]


def test_a_damaged_file_is_one_clear_error(made, tmp_path):
    whole = bytearray(made[1].read_bytes())
    bad = tmp_path / "bad.safetensors"
    changed = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    for content in (b"", b"no network", whole[:5000], changed, whole + b"more"):
        bad.write_bytes(content)
        with pytest.raises(DamagedNetwork, match=r"bad.safetensors can't be used as a network"):
            load_network(bad)
    for missing in ("no-such-network", tmp_path):
        with pytest.raises(DamagedNetwork, match="can't be used"):
            load_network(missing)


def test_a_file_of_another_kind_is_the_same_error(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DamagedNetwork, match="a file that make_network wrote"):
        load_network(tmp_path / "other.safetensors")


def test_thresholds_are_those_of_the_coverage_curve(made):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 10, generator=generator)
    answers, labels = lab.probabilities(logits), logits.argmax(1)
    labels[::7] = 0
    network = dataclasses.replace(made[0], thresholds=threshold_table(labels, answers))
    for allow in (0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 1.0):
        assert network.threshold(allow) == coverage_at(labels, answers, allow).threshold


def test_the_more_errors_are_allowed_the_lower_the_threshold():
    network = load_network()
    thresholds = [network.threshold(allow) for allow in (0.0001, 0.001, 0.01, 0.1, 0.2)]
    assert thresholds == sorted(thresholds, reverse=True) and 0.1 <= thresholds[-1] < 1
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="allow must be a share"):
            network.threshold(wrong)


def test_copies_of_a_validation_image_are_not_learned():
    split = lab.Split(torch.tensor([0, 2, 3]), torch.tensor([1]), "by hand")
    both = split_with_copies(split, 4, 2)
    assert both.train.tolist() == [0, 2, 3, 4, 6, 7, 8, 10, 11]
    assert both.validation.tolist() == [1, 5, 9]


def test_it_answers_as_predict_does(uci_digits):
    network, images = load_network("reader"), uci_digits.test.images[:40]
    logits = predict(network.model, images, network.recipe, "cpu") / network.temperature
    np.testing.assert_allclose(
        network.answer(images.numpy()), logits.double().softmax(1).numpy(), atol=1e-6
    )
