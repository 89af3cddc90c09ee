"""The bench: what it reports, how it computes it, and the loops it measures against.

Nothing here depends on how long anything took.
"""

import getpass
import json
import platform
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

import mnist_lab as lab
from mnist_lab.course import bench
from mnist_lab.course.cli import PARTS, main
from mnist_lab.course.machine import describe_machine, peak_memory

TINY = lab.REPORT_A.but(name="tiny", lr=0.05, batch_size=32, epochs=1, test_translation=1)


@pytest.fixture
def short(monkeypatch):
    """What takes long replaced by what takes no time, the bench otherwise as it is."""
    monkeypatch.setattr(bench, "OFFICIAL", replace(bench.OFFICIAL, epochs=2))
    monkeypatch.setattr(bench, "COMMANDS", {"stops": ("-c", "raise SystemExit(3)")})
    for name in ("FAST", "STRONG", "ACCURATE"):
        monkeypatch.setattr(bench.recipes, name, TINY.but(name=name))


@pytest.fixture
def command(short, few_digits, monkeypatch):
    """Run the command on a few digits."""
    monkeypatch.setattr("mnist_lab.data.load_digits", lambda *_, **__: few_digits)
    return lambda *options: CliRunner().invoke(main, ["bench", "--device", "cpu", *options])


@pytest.mark.parametrize(
    ("loop", "parameters", "adds"),
    [
        # 32 maps 26×26 of 3×3; 64 maps 24×24 of 32×3×3; 9,216 to 128; 128 to 10
        (bench.OFFICIAL, 1_199_882, 26**2 * 32 * 9 + 24**2 * 64 * 288 + 9216 * 128 + 128 * 10),
        # 24 maps 24×24 of 5×5; 32 maps 10×10 of 24×3×3; 800 to 256; 256 to 10
        (bench.LAPTOP, 215_194, 24**2 * 24 * 25 + 10**2 * 32 * 216 + 800 * 256 + 256 * 10),
    ],
    ids=["official example", "train_mnist_fast"],
)
def test_networks_of_others_are_as_published(loop, parameters, adds):
    assert lab.parameter_count(loop.network()) == parameters
    assert lab.multiply_adds(loop.network()) == adds


@pytest.mark.parametrize(("loop", "images"), [(bench.OFFICIAL, 400), (bench.LAPTOP, 1497)])
def test_loops_of_others_learn_by_their_seed_alone(uci_digits, loop, images):
    before = torch.random.get_rng_state()
    loop, digits = replace(loop, epochs=1), bench.first(uci_digits, images)
    once, again = (bench.train(loop, digits, 1, "cpu", print) for _ in range(2))
    assert once.accuracy > 0.4 and once.seconds > 0
    assert torch.equal(once.test_logits, again.test_logits)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_report_a_loop_takes_the_same_steps_as_our_own(few_digits):
    digits = bench.first(few_digits, 64)  # one batch: their order does not matter
    theirs = bench.dataloader_epoch(digits, seed=3, device="cpu")
    ours = lab.fit(lab.REPORT_A.but(epochs=1, seed=3), digits, device="cpu", echo=None)
    torch.testing.assert_close(theirs.test_logits, ours.test_logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("target", "epochs"), [(0.0, 1), (1.1, 2)])
def test_official_example_ends_at_the_target_and_short_of_it_has_no_ratio(
    few_digits, short, monkeypatch, target, epochs
):
    monkeypatch.setattr(bench, "TARGET", target)
    lines: list[str] = []
    contenders = {"official": bench.OFFICIAL, "tiny": TINY}
    official, ours = bench.race(contenders, few_digits, 1, "cpu", lines.append)
    assert official["epochs"] == sum(line.startswith("  epoch") for line in lines) == epochs
    assert (official["ratio"] is None) is (target > 1) and ours["ratio"] == 1


def test_contenders_take_turns_and_ratios_are_of_neighbours(few_digits):
    lines: list[str] = []
    contenders = {"theirs": bench.LAPTOP, "ours": TINY}
    *rows, together = bench.race(contenders, few_digits, 3, "cpu", lines.append)
    assert [row["name"] for row in rows] == [*contenders] * 3
    assert [line.split(",")[0] for line in lines] == [*contenders] * 3
    for theirs, ours in zip(rows[::2], rows[1::2], strict=True):
        assert theirs["ratio"] == theirs["seconds"] / ours["seconds"]
    fits = [lab.fit(one, few_digits, device="cpu", echo=None) for one in TINY.seeds(3)]
    mean = sum(torch.softmax(fit.test_logits, 1) for fit in fits)
    right = lab.accuracy(few_digits.test.labels, mean)
    assert together == {"name": "ours, mean softmax", "accuracy": pytest.approx(right)}


def test_a_table_has_medians_and_the_accuracy_with_its_interval():
    measured = zip([1, 9, 2], [0.98, 0.99, 1.0], strict=True)
    rows = [{"name": "a", "seconds": seconds, "accuracy": share} for seconds, share in measured]
    header, cells = (" ".join(line.split()) for line in bench.as_text("", rows).splitlines()[1:])
    mean = lab.mean_interval([0.98, 0.99, 1.0])
    assert header == "seconds accuracy runs fastest slowest low high reach 99 %"
    assert cells == f"a 2 0.99 3 1 9 {mean.low:.5g} {mean.high:.5g} 2"


def test_inference_counts_every_view_of_an_image(few_digits, short):
    rows = bench.inference(few_digits.test.images, 2, "cpu")
    names = ["Report A", "Report B", "Report B (code)", "FAST", "STRONG", "ACCURATE"]
    assert [row["name"] for row in rows[::2]] == names
    once = lab.multiply_adds(lab.REPORT_A.build())
    assert (rows[0]["multiply_adds"], rows[0]["parameters"]) == (once, 55_274)
    assert (rows[6]["multiply_adds"], rows[6]["views"]) == (9 * once, 9)
    assert all(row["images_per_second"] == 40 / row["seconds"] for row in rows)


def test_machine_is_described_without_host_user_or_path_whatever_the_system_tells(monkeypatch):
    machine = describe_machine()
    assert machine["threads"] == torch.get_num_threads() and machine["processor"]
    text = json.dumps(machine)
    assert platform.node() not in text and getpass.getuser() not in text and "/" not in text
    assert 5e7 < (peak_memory()["peak_memory"] or 1e8) < 1e11
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delattr("os.getloadavg", raising=False)
    assert peak_memory()["peak_memory"] is None and describe_machine()["load"] is None


def test_quick_bench_measures_the_short_parts_and_keeps_no_fit(command, tmp_path, monkeypatch):
    for kept in ("MNIST_LAB_CACHE", "MNIST_LAB_RUNS"):
        monkeypatch.setenv(kept, str(tmp_path / "kept"))
    path = tmp_path / "new folder" / "bench.json"
    done = command("--quick", "--json", str(path))
    found = json.loads(path.read_text(encoding="utf-8"))
    assert done.exit_code == 0
    assert list(found) == ["machine", "startup", "epochs", "fast", "inference", "end"]
    assert found["startup"][0]["exit_status"] == 3
    for heading in (*found, "peak_memory", "images_per_second", "train_mnist_fast"):
        assert heading in done.stdout
    assert "FAST, seed 0" in done.stderr and "FAST, seed 0" not in done.stdout
    assert [path.name for path in tmp_path.rglob("*")] == ["new folder", "bench.json"]


def test_json_alone_is_on_the_standard_output_and_every_part_is_offered(command):
    done = command("--quick", "--json", "-", *(word for part in PARTS for word in ("--only", part)))
    assert done.exit_code == 0 and "ACCURATE, seed 0" in done.stderr
    assert list(json.loads(done.stdout)) == ["machine", *PARTS, "end"]


def test_a_stopped_bench_has_kept_what_was_measured(command, tmp_path, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "inference", stop)
    path = tmp_path / "bench.json"
    done = command("--only", "startup", "--only", "inference", "--json", str(path))
    assert done.exit_code == 130 and "Stopped" in done.stderr
    assert list(json.loads(path.read_text(encoding="utf-8"))) == ["machine", "startup"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "speed"], "'speed' is not one of 'startup'"),
        (["--json", "."], "is a directory"),
        (["--json", f"{__file__}/bench.json"], "cannot be written"),
        (["--device", "tpu9"], "device 'tpu9' cannot be used here"),
    ],
)
def test_bad_option_is_one_clear_error_before_anything_is_measured(command, arguments, said):
    done = command(*arguments)
    assert done.exit_code == 2 and said in done.stderr
    assert "Traceback" not in done.output and "machine:" not in done.output
