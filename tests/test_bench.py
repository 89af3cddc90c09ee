"""The bench: what it reports, how it computes it, and the loops it measures against.

Nothing here depends on how long anything took.
"""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torchvision import transforms
from torchvision.datasets import MNIST

import mnist_lab as lab
from mnist_lab import bench, loops
from mnist_lab.__main__ import bench as bench_command
from mnist_lab.__main__ import main
from mnist_lab.errors import LabError
from mnist_lab.loops import OneByOne, Timed
from mnist_lab.shapes import multiply_adds

TINY = lab.REPORT_A.but(name="tiny", lr=0.05, batch_size=32, epochs=1, test_shift=1)


@pytest.fixture
def tiny_recipes(monkeypatch):
    """What trains for long replaced by what takes no time, the bench otherwise as it is."""
    monkeypatch.setattr(bench, "OFFICIAL_EPOCHS", 2)
    for name in ("FAST", "STRONG", "ACCURATE"):
        monkeypatch.setattr(bench, name, TINY.but(name=name))


@pytest.fixture
def command(tiny_recipes, few_digits, monkeypatch):
    """Run the command on a few digits."""
    monkeypatch.setattr("mnist_lab.data.load_digits", lambda *_, **__: few_digits)

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["bench", "--device", "cpu", *arguments])

    return command


def timed(*seconds: float, accuracy: float = 0.99) -> list[Timed]:
    return [Timed(value, accuracy, 1) for value in seconds]


def test_images_are_handed_out_as_torchvision_does(uci_digits):
    theirs = MNIST.__new__(MNIST)
    theirs.data, theirs.targets = uci_digits.train.images, uci_digits.train.labels
    theirs.transform, theirs.target_transform = transforms.ToTensor(), None
    ours = OneByOne(uci_digits.train, transforms.ToTensor())
    assert len(ours) == 1497
    for i in (0, 7, 1496):
        assert torch.equal(ours[i][0], theirs[i][0])
        assert ours[i][1] == theirs[i][1]


@pytest.mark.parametrize(
    ("network", "parameters", "adds"),
    [
        # 32 maps 26×26 of 3×3; 64 maps 24×24 of 32×3×3; 9,216 to 128; 128 to 10
        (
            loops.official_network,
            1_199_882,
            26**2 * 32 * 9 + 24**2 * 64 * 288 + 9216 * 128 + 128 * 10,
        ),
        # 24 maps 24×24 of 5×5; 32 maps 10×10 of 24×3×3; 800 to 256; 256 to 10
        (
            loops.laptop_network,
            215_194,
            24**2 * 24 * 25 + 10**2 * 32 * 216 + 800 * 256 + 256 * 10,
        ),
    ],
    ids=["official example", "train_mnist_fast"],
)
def test_networks_of_others_are_as_published(network, parameters, adds):
    assert lab.parameter_count(network()) == parameters
    assert multiply_adds(network()) == adds


@pytest.mark.parametrize(
    "loop",
    [
        loops.laptop_recipe,
        lambda digits, **options: loops.official_example(digits, max_epochs=1, **options),
    ],
    ids=["train_mnist_fast", "official example"],
)
def test_loops_of_others_really_train(uci_digits, loop):
    done = loop(uci_digits, seed=1, device="cpu")
    assert done.accuracy > 0.5
    assert done.seconds > 0


def test_report_a_loop_takes_the_same_steps_as_our_own(few_digits, monkeypatch):
    """One batch holds all images, so that their order does not matter."""
    digits = dataclasses.replace(
        few_digits, train=lab.Images(few_digits.train.images[:64], few_digits.train.labels[:64])
    )
    kept = []

    def keep(model, *arguments):
        kept.append(model)
        return torch.zeros(len(digits.test), 10)

    monkeypatch.setattr(loops, "predict", keep)
    loops.dataloader_epoch(digits, seed=3, device="cpu")
    ours = lab.fit(lab.REPORT_A.but(epochs=1, seed=3), digits, device="cpu", echo=None).model
    for mine, other in zip(ours.parameters(), kept[0].parameters(), strict=True):
        np.testing.assert_allclose(mine.detach(), other.detach(), atol=1e-6)


def test_loops_leave_the_global_random_state_alone(few_digits):
    before = torch.random.get_rng_state()
    loops.dataloader_epoch(few_digits, device="cpu")
    loops.laptop_recipe(few_digits, device="cpu")
    loops.official_example(few_digits, max_epochs=1, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_seed_decides_the_accuracy_of_a_loop(few_digits):
    first, again = (loops.laptop_recipe(few_digits, 1, device="cpu") for _ in range(2))
    assert first.accuracy == again.accuracy


def test_official_example_stops_at_the_first_epoch_that_reaches_the_target(few_digits):
    said: list[str] = []
    options = {"device": "cpu", "max_epochs": 3, "echo": said.append}
    assert loops.official_example(few_digits, target=0.0, **options).epochs == 1
    assert len(said) == 1
    assert loops.official_example(few_digits, target=1.1, **options).epochs == 3
    assert len(said) == 4


def test_ratios_are_of_runs_side_by_side():
    theirs, ours = timed(10.0, 30.0, 20.0), timed(1.0, 2.0, 4.0)
    assert bench.paired_ratios(theirs, ours) == [10.0, 15.0, 5.0]
    assert bench.ratio_of_medians(theirs, ours) == 10.0


def test_ratios_of_an_epoch_come_from_its_repeats(few_digits):
    values = bench.measure_epochs(few_digits, 3, "cpu", print).values
    theirs, ours = values["rows"]
    ratios = [a / b for a, b in zip(theirs["seconds"], ours["seconds"], strict=True)]
    assert values["ratio"] == {"median": sorted(ratios)[1], "min": min(ratios), "max": max(ratios)}
    assert values["images"] == 200


def test_fast_and_train_mnist_fast_take_turns(few_digits, tiny_recipes):
    said: list[str] = []
    part = bench.measure_fast(few_digits, 3, 1, "cpu", said.append)
    turns = [line.split(",")[0] for line in said if "seed" in line]
    assert turns == [bench.OFFICIAL, *[bench.LAPTOP, "FAST"] * 3]
    assert [fit.recipe.seed for fit in part.fits] == [0, 1, 2]
    fast = part.values["rows"][2]
    assert fast["seconds"] == [fit.seconds for fit in part.fits]
    laptop = part.values["rows"][1]
    assert part.values["ratios"][bench.LAPTOP] == pytest.approx(
        np.median(laptop["seconds"]) / np.median(fast["seconds"])
    )


@pytest.mark.parametrize(("target", "reached"), [(0.0, True), (1.1, False)])
def test_example_that_never_reaches_the_target_has_no_ratio(
    few_digits, tiny_recipes, monkeypatch, target, reached
):
    monkeypatch.setattr(bench, "TARGET", target)
    part = bench.measure_fast(few_digits, 1, 1, "cpu", lambda line: None)
    official = part.values["rows"][0]
    assert (part.values["ratios"][bench.OFFICIAL] is not None) is reached
    assert official["seeds_at_target"] == int(reached)
    assert official["epochs"] == [1 if reached else 2]
    assert ("no ratio" in part.text) is not reached


def test_ensemble_is_the_mean_softmax_of_the_seeds(few_digits):
    part = bench.measure_recipe(TINY, few_digits, 3, "cpu", lambda line: None)
    together = sum(torch.softmax(fit.test_logits, 1) for fit in part.fits)
    right = (together.argmax(1) == few_digits.test.labels).double().mean()
    assert part.values["ensemble_accuracy"] == pytest.approx(float(right))
    (row,) = part.values["rows"]
    expected = lab.mean_interval(row["accuracies"])
    assert (row["accuracy_low"], row["accuracy_high"]) == (expected.low, expected.high)
    assert row["seeds"] == 3


def test_inference_counts_every_view_of_an_image(few_digits, tiny_recipes):
    values = bench.measure_inference(few_digits.test.images, 2, "cpu", lambda line: None).values
    rows = {row["name"]: row for row in values["rows"]}
    assert list(rows) == ["Report A", "Report B", "Report B (code)", "FAST", "STRONG", "ACCURATE"]
    once = multiply_adds(lab.REPORT_A.build())
    assert rows["Report A"]["multiply_adds"] == once
    assert rows["FAST"]["multiply_adds"] == 9 * once
    assert rows["Report A"]["parameters"] == 55_274
    for row in rows.values():
        assert row["images_per_second"] == pytest.approx(40 / np.median(row["seconds"]))


def test_networks_of_the_named_recipes_take_the_images_they_are_given(few_digits):
    rows = bench.measure_inference(few_digits.test.images[:2], 1, "cpu", print).values["rows"]
    assert all(row["multiply_adds"] > 0 and row["parameters"] > 0 for row in rows)


def test_bench_keeps_no_fit_to_read_later(few_digits, tiny_recipes, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path))
    bench.measure(few_digits, quick=True, only=["strong"], device="cpu", say=print)
    assert not list(tmp_path.iterdir())


def test_results_are_handed_back_and_said_part_by_part(few_digits, tiny_recipes):
    said: list[str] = []
    done = bench.measure(few_digits, only=["accurate", "epochs"], device="cpu", say=said.append)
    assert list(done.parts) == ["epochs", "accurate"]
    assert len(done.parts["accurate"].fits) == 3
    assert [part.text in text for part, text in zip(done.parts.values(), said[1:3], strict=True)]
    assert len(said) == 4
    assert "Measured on" in said[0]
    assert "Peak memory" in said[3]


def test_unknown_part_is_refused(few_digits):
    with pytest.raises(ValueError, match="speed"):
        bench.measure(few_digits, only=["speed"])


def test_unknown_device_is_refused_before_anything_is_measured(few_digits):
    said: list[str] = []
    with pytest.raises(LabError, match="tpu9"):
        bench.measure(few_digits, device="tpu9", say=said.append)
    assert not said


def test_machine_is_described(few_digits):
    machine = bench.describe_machine(few_digits, "cpu")
    assert machine["threads"] == torch.get_num_threads()
    assert machine["torch"] == torch.__version__
    assert machine["processor"]
    known = hasattr(torch.cpu, "get_capabilities")
    assert isinstance(machine["bfloat16_native"], bool) or not known
    assert machine["train_images"] == 200
    json.dumps(machine)


def test_peak_memory_is_that_of_a_process_that_loaded_torch():
    peak = bench.peak_memory("cpu")
    assert peak["gpu"] is None
    assert peak["process"] is None or 5e7 < peak["process"] < 1e11


def test_systems_that_do_not_tell_memory_and_load(few_digits, tiny_recipes, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delattr("os.getloadavg", raising=False)
    said: list[str] = []
    done = bench.measure(few_digits, only=["strong"], quick=True, device="cpu", say=said.append)
    assert done.machine["peak_memory"] == {"process": None, "gpu": None}
    assert done.machine["load_at_start"] is None
    assert said[-1] == "\nPeak memory: not available\nLoad at the end: not available"
    json.loads(done.to_json())


def test_quick_bench_on_the_command_line(command, tmp_path):
    path = tmp_path / "new folder" / "bench.json"
    done = command("--quick", "--json", str(path))
    assert done.exit_code == 0, done.output
    values = json.loads(path.read_text(encoding="utf-8"))
    assert list(values) == ["machine", *bench.QUICK_PARTS]
    assert values["machine"]["quick"] is True
    assert values["epochs"]["images"] == 20
    assert [row["seeds"] for row in values["fast"]["rows"]] == [1, 1, 1]
    assert [p.name for p in path.parent.iterdir()] == ["bench.json"]
    for heading in ("Measured on", "seconds per epoch of 20 images", "Inference on 40 test images"):
        assert heading in done.stdout
    assert "FAST, seed 0" in done.stderr
    assert "FAST, seed 0" not in done.stdout


def test_what_is_measured_is_kept_part_by_part(few_digits, tiny_recipes):
    kept: list[list[str]] = []
    parts = ["strong", "accurate"]
    bench.measure(
        few_digits,
        only=parts,
        quick=True,
        device="cpu",
        say=lambda text: None,
        keep=lambda so_far: kept.append(list(json.loads(so_far.to_json()))),
    )
    assert kept[0] == ["machine", "strong"]
    assert kept[1] == kept[2] == ["machine", "strong", "accurate"]


def test_json_alone_is_on_the_standard_output(command):
    done = command("--only", "strong", "--only", "accurate", "--quick", "--json", "-")
    assert done.exit_code == 0, done.output
    assert list(json.loads(done.stdout)) == ["machine", "strong", "accurate"]
    assert "STRONG" in done.stderr


def test_columns_are_aligned(command):
    lines = command("--only", "inference", "--quick").stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Inference"))
    table = lines[start + 1 : start + 8]
    assert len({len(line) for line in table}) == 1
    assert table[1].startswith("  Report A ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "speed"], "'speed' is not one of 'epochs'"),
        (["--dataset", "cifar"], "'cifar' is not one of"),
        (["--json", "."], "is a directory"),
        (["--slow"], "No such option"),
        (["--only", "strong", "--device", "tpu9"], "device 'tpu9' cannot be used here"),
    ],
)
def test_bad_option_is_one_clear_error(command, arguments, said):
    done = command(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_json_that_cannot_be_written_is_said_before_measuring(command, tmp_path):
    (tmp_path / "file").touch()
    done = command("--json", str(tmp_path / "file" / "bench.json"))
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
    assert "Measured on" not in done.output


def test_command_offers_every_part():
    (only,) = (option for option in bench_command.params if option.name == "only")
    assert tuple(only.type.choices) == bench.PARTS
