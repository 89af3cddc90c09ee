"""Every figure: as wide as a page, titled, its axes labelled, drawn without a warning."""

import io
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

import mnist_lab as lab
from mnist_lab import figures
from mnist_lab.figures.style import plain
from mnist_lab.handwriting.reading import ReadDigit
from mnist_lab.handwriting.sheet_reading import SheetPage
from mnist_lab.study import calibration

RNG = np.random.default_rng(0)
IMAGES = torch.from_numpy(RNG.integers(0, 256, (7, 28, 28), dtype=np.uint8))
CONFUSION = np.diag([90] * 10) + RNG.integers(0, 3, (10, 10))
POINTS = RNG.normal(size=(40, 2))
MEANS = {"lr 0.1": lab.mean_interval([98, 99, 98.5]), "lr 0.2, once": lab.mean_interval([97])}
SEEDS = {"lr 0.1": [98, 99, 98.5], "lr 0.2, once": [97]}


def history(losses: tuple[float, ...], validation: tuple[float, ...]) -> lab.History:
    count = len(losses)
    steps = tuple(24 * epoch for epoch in range(count))
    return lab.History(24, steps, losses, losses, validation, validation, (1.0,) * count)


NOT_VALIDATED = history((1.2,), ())
VALIDATED = history((1.6, 0.8, 0.5), (1.0, 0.7, 0.9))

LABELS = torch.from_numpy(RNG.integers(0, 10, 500))
UNSURE = lab.probabilities(torch.from_numpy(RNG.normal(size=(500, 10))) + 2 * torch.eye(10)[LABELS])
CERTAIN = torch.eye(10)[LABELS]  # no error, a single confidence
ANSWERS = {"A": UNSURE, "B": CERTAIN, "C": UNSURE, "D": UNSURE}
RELIABILITY = {name: calibration.reliability(LABELS, p) for name, p in ANSWERS.items()}
COVERAGE = {name: calibration.coverage_curve(LABELS, p) for name, p in ANSWERS.items()}


def curves(panel: str, x: str, values: dict[str, tuple[float, ...]]) -> pd.DataFrame:
    """Accuracies with intervals, falling along each panel's axis."""
    table = pd.Series(values).explode().rename_axis(panel).reset_index(name=x).astype({x: float})
    accuracy = np.linspace(0.9, 0.1, len(table))
    return table.assign(accuracy=accuracy, low=accuracy - 0.01, high=accuracy + 0.01)


SHIFTS = {"rotation": (-45, 0, 20, 45), "noise": (0, 0.5), "inversion": (1,), "blur": (0, 1, 2)}
SHIFTED = pd.concat(
    curves("kind", "strength", SHIFTS).assign(model=model, unit=unit)
    for model, unit in (("A", "pixels"), ("STRONG", ""))
)
RESPONSES = {"learning rate": (0.1, 0.05, 0.2), "L1": (0, 1e-5, 1e-4, 1e-2), "dropout": (0, 0.5)}
ALONG = {"log": ["learning rate", "L1"], "baselines": dict.fromkeys(RESPONSES, 0.1)}
SPEEDS = pd.DataFrame({"name": ["FAST", "A", "twin of A", "one seed", "", "no error", "diverged"]})
SPEEDS["seconds"] = [6, 180, 181, 60, 900, 950, 30]
SPEEDS["accuracy"] = [0.990, 0.989, 0.989, 0.996, 0.997, 1.0, np.nan]
SPEEDS["low"] = [0.989, 0.988, 0.988, np.nan, 0.990, 0.999, np.nan]
SPEEDS["high"] = 2 * SPEEDS["accuracy"] - SPEEDS["low"]  # beyond 1 for the two best


def forest(rows: int) -> pd.DataFrame:
    """Differences in four families, one far off, one of a single seed, one that never finished."""
    table = pd.DataFrame({"family": [f"family {4 * row // rows}" for row in range(rows)]})
    table["name"] = [f"change {row}" for row in range(rows)]
    table["difference"] = [-77, 0.1, np.nan, *RNG.normal(0, 0.2, rows - 3)]
    half = np.array([0.15, np.nan, np.nan, *[0.15] * (rows - 3)])
    table["low"], table["high"] = table["difference"] - half, table["difference"] + half
    table["verdict"] = np.where(table["low"] > 0, "helps", "no difference seen")
    return table


PICTURE = np.full((60, 80, 3), 200, np.uint8)
READ_DIGIT = ReadDigit(np.full(10, 0.1), (5, 5, 20, 30), np.eye(28, dtype=np.uint8), 3, 0.1, False)
CUT = (np.zeros((2, 28, 28), np.uint8), np.array([3, 4]), np.array([0, 99]))
SHEET_PAGE = SheetPage(7, *CUT, np.array([1]), np.array([2]), np.ones((100, 4, 2)))
FIGURES: list[tuple[str, tuple, dict]] = [
    ("class_counts", ([5923] * 10, list(range(980, 990))), {}),
    ("image_grid", (IMAGES / 255, ["4\nsaid 9"] * 7), {"columns": 4, "value_range": (0, 1)}),
    ("image_grid", (IMAGES,), {"columns": 4, "row_labels": ["first", "second"]}),
    ("pixel_histogram", ([47_000_000, *range(255, 0, -1)],), {}),
    ("embeddings", ({"PCA": POINTS, "t-SNE": -POINTS}, torch.arange(40) % 10), {}),
    ("class_share_difference", ({"random": np.linspace(-1, 1, 10)},), {}),
    ("loss_curves", ({"A": NOT_VALIDATED, "B": VALIDATED},), {"floor": 1.46}),
    ("loss_curves", ({"A": VALIDATED},), {"log": True}),
    ("validation_curves", (dict.fromkeys("ABCD", VALIDATED),), {}),
    ("validation_curves", ({"one epoch": history((0.5,), (0.5,))},), {}),
    ("confusion_heatmap", (CONFUSION,), {}),
    ("confusion_heatmap", (np.diag([5] * 10),), {}),
    ("interval_plot", (MEANS,), {"points": SEEDS, "reference": 98, "xlabel": "accuracy (%)"}),
    ("recall_by_class", tuple(np.linspace(low, 1, 10) for low in (0.9, 0.85, 0.95)), {}),
    ("reliability_diagram", (RELIABILITY,), {}),
    ("reliability_diagram", ({"A": RELIABILITY["A"]},), {}),
    ("coverage_plot", (COVERAGE,), {"target": 1e-4}),
    ("coverage_plot", ({"B": COVERAGE["B"]},), {"target": 0.02}),
    ("accuracy_under_shift", (SHIFTED,), {}),
    ("forest_plot", (forest(80),), {"xlabel": "points"}),
    ("forest_plot", (forest(8),), {"xlabel": "points"}),
    ("forest_plot", (forest(8)[2:3],), {"xlabel": "points"}),
    ("response_curves", (curves("parameter", "value", RESPONSES),), ALONG),
    ("time_and_accuracy", (SPEEDS,), {"front": True}),
    ("time_and_accuracy", (SPEEDS,), {"path": True}),
    ("receptive_fields", (IMAGES[0], {"conv1": 5, "pool1": 6, "conv2": 14}), {}),
    ("filters_and_maps", (torch.randn(6, 5, 5), IMAGES[0], {"conv": torch.rand(9, 24, 24)}), {}),
    ("reading_figure", (PICTURE, [READ_DIGIT] * 11), {}),
    ("sheet_figure", (PICTURE, SHEET_PAGE), {}),
    ("loss_slice", ((-0.5, 0.0, 1.0), {"training": (2.4, 2.3, 0.1), "test": (2.4, 2.3, 0.2)}), {}),
]


def draw(name: str, *positional, **named) -> Figure:
    """The figure, drawn as a PNG, every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = getattr(figures, name)(*positional, **named, title="What was found")
        figure.savefig(io.BytesIO(), format="png", dpi=50)
    return figure


def test_every_figure_function_is_drawn_in_these_tests():
    assert {name for name, _, _ in FIGURES} == set(figures.__all__)


@pytest.mark.parametrize(("name", "positional", "named"), FIGURES, ids=[f[0] for f in FIGURES])
def test_a_figure_is_9_inches_wide_titled_labelled_and_not_kept_open(name, positional, named):
    figure = draw(name, *positional, **named)
    assert figure.get_size_inches()[0] == 9
    assert figure.get_suptitle() == "What was found"
    assert plt.get_fignums() == []
    for axes in figure.axes:
        if axes.get_visible() and not axes.images:
            for axis, shared in ((axes.xaxis, ""), (axes.yaxis, figure.get_supylabel())):
                ticks = [text.get_text() for text in axis.get_ticklabels() if text.get_visible()]
                numbers = any(tick.strip("−").replace(".", "").isdigit() for tick in ticks)
                assert axis.label.get_text() or shared or not numbers, (axes, axis.axis_name)


def test_an_epochs_mean_is_drawn_over_the_steps_of_that_epoch():
    (means,) = figures.loss_curves({"B": VALIDATED}, title="any").axes[0].collections
    first, second, _ = (segment.tolist() for segment in means.get_segments())
    assert (first, second) == ([[0, 1.6], [24, 1.6]], [[24, 0.8], [48, 0.8]])


def test_a_heat_maps_colours_show_errors_only_and_its_numbers_all_counts():
    before = CONFUSION.copy()
    axes = figures.confusion_heatmap(CONFUSION, title="any").axes[0]
    shown = axes.collections[0].get_array().reshape(10, 10)
    assert np.array_equal(np.ma.getmaskarray(shown), np.eye(10, dtype=bool))
    assert np.array_equal(shown.filled(0), CONFUSION - np.diag(CONFUSION.diagonal()))
    numbers = np.zeros_like(CONFUSION)
    for text in axes.texts:
        column, row = np.floor(text.get_position()).astype(int)
        numbers[row, column] = int(text.get_text() or 0)
    assert np.array_equal(numbers, CONFUSION) and np.array_equal(CONFUSION, before)


def test_every_label_of_a_point_keeps_clear_of_the_others_and_of_the_edge():
    crowd = pd.DataFrame({"name": [f"recipe number {place}" for place in range(8)]})
    crowd["seconds"] = 100 + 3.0 * crowd.index
    crowd["accuracy"] = 0.99 + 1e-4 * (crowd.index % 3)
    crowd[["low", "high"]] = np.nan
    spread = pd.DataFrame({"name": "", "seconds": [5.0, 1000], "accuracy": [0.98, 0.997]})
    axes = draw("time_and_accuracy", pd.concat([crowd, spread])).axes[0]
    axes.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without their lines
    assert [text.get_text() for text in axes.texts] == crowd["name"].tolist()
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in box.get_points())


def test_a_path_joins_the_points_in_the_order_of_the_rows():
    rows = SPEEDS.dropna(subset="accuracy").sort_values("accuracy", ascending=False)
    path = draw("time_and_accuracy", rows, path=True).axes[0].lines[-1]
    assert np.allclose(path.get_xdata(), rows["seconds"])
    assert np.allclose(path.get_ydata(), 100 - 100 * rows["accuracy"])


def test_the_front_joins_what_no_other_is_both_faster_and_more_accurate_than():
    front = draw("time_and_accuracy", SPEEDS, front=True).axes[0].lines[-1]
    assert front.get_xdata().tolist() == [6, 60, 900, 950]


def test_no_interval_of_an_accuracy_goes_beyond_100_percent():
    axes = draw("time_and_accuracy", SPEEDS).axes[0]
    assert axes.dataLim.ymin == 0  # of errors
    wide = {"A": lab.mean_interval([95, 100])}
    assert draw("interval_plot", wide, points={"A": []}, xlabel="%").axes[0].dataLim.xmax == 100


def test_a_forest_prints_every_value_and_grows_with_its_rows():
    figure = figures.forest_plot(forest(80), xlabel="points", title="any")
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[:3] == ["−77.00 (−77.15 to −76.85)", "+0.10", "no result"]
    assert len(texts) == 80 and axes.get_xlim()[0] > -5
    families, names = axes.get_yticklabels(), axes.get_yticklabels(minor=True)
    assert [text.get_text() for text in families] == [f"family {place}" for place in range(4)]
    assert [text.get_text() for text in names] == [f"change {place}" for place in range(80)]
    assert figure.get_size_inches()[1] > 80 * 0.2


def test_a_window_is_drawn_around_ink():
    image = torch.zeros(28, 28, dtype=torch.uint8)
    image[20, 5] = 200
    (window,) = figures.receptive_fields(image, {"conv1": 5}, title="any").axes[0].patches
    assert tuple(window.get_center()) == (5, 20)


def test_the_best_epoch_has_the_least_validation_loss_and_without_validation_there_is_none():
    axes = figures.validation_curves({"B": VALIDATED}, title="any").axes[0]
    assert axes.get_title() == "B\nbest after epoch 2"
    with pytest.raises(ValueError, match="expected validation losses, found none in A"):
        figures.validation_curves({"A": NOT_VALIDATED, "B": VALIDATED}, title="any")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.14, "0.14"), (2000, "2,000"), (1e-6, "10⁻⁶"), (5e-4, "5·10⁻⁴"), (1e-3, "0.001")],
)
def test_a_tick_is_a_plain_number_or_a_power_of_ten(value, text):
    assert plain(value) == text
