"""Every figure: as wide as a page, titled, its axes labelled, drawn without a warning."""

import dataclasses
import inspect
import io
import warnings
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

import mnist_lab as lab
from mnist_lab import calibration, figures
from mnist_lab.style import plain

RNG = np.random.default_rng(0)
IMAGES = torch.from_numpy(RNG.integers(0, 256, (7, 28, 28), dtype=np.uint8))
CONFUSION = np.diag([90] * 10) + RNG.integers(0, 3, (10, 10))
ONE_EPOCH = lab.History(
    steps_per_epoch=150,
    steps=(0, 100),
    step_losses=(2.3, 0.9),
    epoch_losses=(1.2,),
    validation_losses=(),
    validation_accuracies=(),
    epoch_seconds=(1.0,),
)
TWO_EPOCHS = lab.History(
    steps_per_epoch=24,
    steps=(0, 24),
    step_losses=(2.3, 1.1),
    epoch_losses=(1.6, 0.8),
    validation_losses=(1.0, 0.7),
    validation_accuracies=(0.8, 0.9),
    epoch_seconds=(1.0, 1.0),
)
MEANS = {
    "lr 0.1": lab.mean_interval([0.98, 0.99, 0.985]),
    "lr 0.2, once": lab.mean_interval([0.97]),
}
POINTS = RNG.normal(size=(40, 2))

LABELS = torch.from_numpy(RNG.integers(0, 10, 500))
UNSURE = lab.probabilities(torch.from_numpy(RNG.normal(size=(500, 10))) + 2 * torch.eye(10)[LABELS])
CERTAIN = torch.eye(10)[LABELS]  # no error, a single confidence
TABLES = {
    name: calibration.reliability(LABELS, probabilities)
    for name, probabilities in (("A", UNSURE), ("B", CERTAIN), ("C", UNSURE), ("D", UNSURE))
}
CURVES = {
    "A": calibration.coverage_curve(LABELS, UNSURE),
    "B": calibration.coverage_curve(LABELS, CERTAIN),
}
SHIFTS = pd.DataFrame(
    [
        (kind, strength, unit, model, 0.99 - 0.02 * strength)
        for kind, unit, strengths in (
            ("rotation", "degrees", (0, 10, 20, 45)),
            ("noise", "standard deviation", (0, 0.5)),
            ("inversion", "", (1,)),
            ("blur", "pixels", (0, 1, 2, 3)),
        )
        for strength in strengths
        for model in ("A", "STRONG")
    ],
    columns=["kind", "strength", "unit", "model", "accuracy"],
)
SPEEDS = pd.DataFrame(
    [
        ("FAST", 6, 0.990, 0.989, 0.991),
        ("Report A", 180, 0.989, 0.988, 0.990),
        ("twin of A", 181, 0.989, 0.988, 0.990),
        ("one seed", 60, 0.996, np.nan, np.nan),
        ("", 900, 0.997, 0.996, 0.998),
        ("no error", 950, 1.0, 0.999, 1.0),
        ("diverged", 30, np.nan, np.nan, np.nan),
    ],
    columns=["name", "seconds", "accuracy", "low", "high"],
)
RESPONSES = pd.DataFrame(
    [
        (parameter, value, curve, 0.99 - value / 3, 0.98 - value / 3, 1.0 - value / 3)
        for parameter, values in (
            ("learning rate", (0.05, 0.1, 0.2)),
            ("L1 penalty", (0, 1e-5, 1e-4, 1e-2)),
            ("dropout", (0, 0.25, 0.5)),
            ("weight decay", (1e-6, 1e-4, 1e-2)),
        )
        for value in values
        for curve in ("SGD", "Adam")
    ],
    columns=["parameter", "value", "curve", "accuracy", "low", "high"],
)


def forest(rows: int) -> pd.DataFrame:
    """Differences in four families, one far off, one of a single seed, one that never finished."""
    difference = RNG.normal(0, 0.2, rows)
    difference[[0, 1, 2]] = -77, 0.1, np.nan
    half = np.full(rows, 0.15)
    half[[1, 2]] = np.nan
    verdict = np.where(
        difference - half > 0,
        "helps",
        np.where(difference + half < 0, "hurts", "no difference seen"),
    )
    return pd.DataFrame(
        {
            "family": [f"family {4 * row // rows}" for row in range(rows)],
            "name": [f"change {row}" for row in range(rows)],
            "difference": difference,
            "low": difference - half,
            "high": difference + half,
            "verdict": verdict,
        }
    )


FIGURES: list[tuple[Callable[..., Figure], tuple, dict]] = [
    (figures.class_counts, ([5923] * 10, list(range(980, 990))), {}),
    (figures.image_grid, (IMAGES,), {"columns": 5}),
    (
        figures.image_grid,
        (IMAGES.float() / 255, ["true 4\nsaid 9"] * 7),
        {"columns": 4, "row_labels": ["first", "second"], "value_range": (0, 1)},
    ),
    (figures.pixel_histogram, ([47_000_000, *range(255, 0, -1)],), {}),
    (
        figures.embeddings,
        ({"PCA": POINTS, "t-SNE": -POINTS}, torch.arange(40) % 10),
        {},
    ),
    (figures.class_share_difference, ({"random": np.linspace(-1, 1, 10)},), {}),
    (
        figures.loss_curves,
        ({"A": ONE_EPOCH, "B": TWO_EPOCHS},),
        {"floor": 1.46},
    ),
    (figures.loss_curves, ({"A": TWO_EPOCHS},), {"log": True}),
    (figures.validation_curves, ({"A": TWO_EPOCHS, "B": TWO_EPOCHS},), {}),
    (figures.validation_curves, (dict.fromkeys("ABCD", TWO_EPOCHS),), {}),
    (figures.confusion_heatmap, (CONFUSION,), {}),
    (figures.confusion_heatmap, (np.diag([5] * 10),), {}),
    (
        figures.interval_plot,
        (MEANS,),
        {"points": {"lr 0.1": [0.98, 0.99, 0.985]}, "reference": 0.98, "xlabel": "accuracy"},
    ),
    (
        figures.recall_by_class,
        (np.linspace(0.9, 1, 10), np.linspace(0.85, 0.99, 10), np.linspace(0.95, 1, 10)),
        {},
    ),
    (figures.reliability_diagram, (TABLES,), {}),
    (figures.reliability_diagram, ({"A": TABLES["A"]},), {}),
    (figures.coverage_plot, (CURVES,), {"target": 1e-4}),
    (figures.coverage_plot, ({"B": CURVES["B"]},), {}),
    (figures.accuracy_under_shift, (SHIFTS,), {}),
    (
        figures.accuracy_under_shift,
        (SHIFTS.assign(low=SHIFTS["accuracy"] - 0.01, high=SHIFTS["accuracy"] + 0.01),),
        {},
    ),
    (figures.forest_plot, (forest(80),), {}),
    (figures.forest_plot, (forest(8),), {"xlabel": "points"}),
    (
        figures.response_curves,
        (RESPONSES,),
        {
            "log": ("learning rate", "L1 penalty", "weight decay"),
            "baselines": {"learning rate": 0.14, "L1 penalty": 0, "weight decay": 0},
        },
    ),
    (
        figures.response_curves,
        (RESPONSES[RESPONSES["curve"] == "SGD"].drop(columns="curve"),),
        {"log": ("learning rate",), "error": True},
    ),
    (figures.time_and_accuracy, (SPEEDS,), {}),
    (figures.time_and_accuracy, (SPEEDS,), {"error": True, "front": True}),
    (figures.time_and_accuracy, (SPEEDS,), {"error": True, "path": True}),
    (figures.receptive_fields, (IMAGES[0], {"conv1": 5, "pool1": 6, "conv2": 14}), {}),
    (
        figures.filters_and_maps,
        (
            torch.from_numpy(RNG.normal(size=(6, 5, 5))),
            IMAGES[0],
            {"conv1": torch.rand(6, 24, 24), "conv2": torch.rand(16, 8, 8)},
        ),
        {},
    ),
    (
        figures.loss_slice,
        ((-0.5, 0.0, 1.0, 1.5), {"training": (2.4, 2.3, 0.1, 0.4), "test": (2.4, 2.3, 0.2, 0.5)}),
        {},
    ),
]


def test_every_figure_function_is_drawn_in_these_tests():
    public = {
        function
        for name, function in inspect.getmembers(figures, inspect.isfunction)
        if name in figures.__all__
    }
    assert {function.__name__ for function in public} == set(figures.__all__)
    assert public == {function for function, _, _ in FIGURES}


@pytest.fixture(
    scope="module", params=FIGURES, ids=[function.__name__ for function, _, _ in FIGURES]
)
def drawn(request) -> Figure:
    """The figure, drawn as a PNG, every warning an error."""
    function, positional, named = request.param
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = function(*positional, **named, title="What was found")
        figure.savefig(io.BytesIO(), format="png", dpi=50)
    return figure


def test_a_figure_is_9_inches_wide(drawn):
    assert isinstance(drawn, Figure) and drawn.get_size_inches()[0] == 9


def test_a_figure_has_the_title_given(drawn):
    assert drawn.get_suptitle() == "What was found"


def test_an_axis_with_numbers_on_it_says_what_they_are(drawn):
    """Ticks that are words, such as the names of rows, say it themselves."""
    unlabelled = [
        (axes.get_title(), axis.axis_name)
        for axes in drawn.axes
        if axes.get_visible() and not axes.images
        for axis in (axes.xaxis, axes.yaxis)
        if not axis.label.get_text() and any(map(is_number, ticks(axis)))
    ]
    assert unlabelled == []


def ticks(axis) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels() if text.get_visible()]


def is_number(text: str) -> bool:
    try:
        float(text.replace("−", "-"))
    except ValueError:
        return "mathdefault" in text  # a power of ten on a logarithmic axis
    return True


def test_no_figure_stays_open_in_pyplot(drawn):
    assert plt.get_fignums() == []


def test_an_epochs_mean_is_drawn_over_the_steps_of_that_epoch():
    figure = figures.loss_curves({"B": TWO_EPOCHS}, title="any")
    (means,) = figure.axes[0].collections
    assert [segment.tolist() for segment in means.get_segments()] == [
        [[0, 1.6], [24, 1.6]],
        [[24, 0.8], [48, 0.8]],
    ]


def test_a_heat_maps_colours_show_errors_only_and_its_numbers_all_counts():
    axes = figures.confusion_heatmap(CONFUSION, title="any").axes[0]
    shown = np.ma.getdata(axes.collections[0].get_array()).reshape(10, 10)
    off = ~np.eye(10, dtype=bool)
    assert np.array_equal(shown[off], CONFUSION[off])
    assert np.ma.getmaskarray(axes.collections[0].get_array()).reshape(10, 10)[~off].all()
    assert [int(text.get_text()) for text in axes.texts] == CONFUSION.ravel().tolist()


def test_the_figures_leave_the_data_alone():
    before = CONFUSION.copy()
    figures.confusion_heatmap(CONFUSION, title="any")
    assert np.array_equal(CONFUSION, before)


def test_every_label_of_a_point_keeps_clear_of_the_others_and_of_the_edge():
    crowd = pd.DataFrame({"name": [f"recipe number {place}" for place in range(8)]})
    crowd["seconds"] = 100 + 3.0 * crowd.index
    crowd["accuracy"] = 0.99 + 1e-4 * (crowd.index % 3)
    crowd[["low", "high"]] = np.nan
    spread = pd.DataFrame({"name": "", "seconds": [5.0, 1000], "accuracy": [0.98, 0.997]})
    figure = figures.time_and_accuracy(pd.concat([crowd, spread]), title="any")
    figure.savefig(io.BytesIO(), format="png")
    axes = figure.axes[0]
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without their lines
    assert [text.get_text() for text in axes.texts] == crowd["name"].tolist()
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in box.get_points())


def test_a_path_joins_the_points_in_the_order_of_the_rows():
    rows = SPEEDS.dropna(subset=["seconds", "accuracy"]).sort_values("accuracy", ascending=False)
    figure = figures.time_and_accuracy(rows, path=True, title="any")
    drawn = [line.get_xydata() for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    expected = np.column_stack([rows["seconds"], 100 * rows["accuracy"]])
    assert any(len(d) == len(expected) and np.allclose(d, expected) for d in drawn)


def test_the_front_joins_what_no_other_is_both_faster_and_more_accurate_than():
    figure = figures.time_and_accuracy(SPEEDS, front=True, title="any")
    (front,) = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]
    assert front.get_xdata().tolist() == [6, 60, 900, 950]


def test_a_forest_prints_every_value_and_grows_with_its_rows():
    table = forest(80)
    figure = figures.forest_plot(table, title="any")
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "−77.00 (−77.15 to −76.85)"
    assert texts[1:3] == ["+0.10", "no result"]
    assert len(texts) == 80 and axes.get_xlim()[0] > -5
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[:2] == ["family 0", "change 0"] and len(names) == 84
    assert figure.get_size_inches()[1] > 80 * 0.2


def test_the_best_epoch_is_that_of_the_least_validation_loss():
    history = dataclasses.replace(
        TWO_EPOCHS, epoch_losses=(1.6, 0.8, 0.5), validation_losses=(1.0, 0.7, 0.9)
    )
    axes = figures.validation_curves({"B": history}, title="any").axes[0]
    assert axes.get_title() == "B\nbest after epoch 2"


def test_validation_curves_without_validation_are_refused():
    with pytest.raises(ValueError, match="expected validation losses, found none in A"):
        figures.validation_curves({"A": ONE_EPOCH, "B": TWO_EPOCHS}, title="any")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.14, "0.14"), (2000, "2,000"), (1e-6, "10⁻⁶"), (5e-4, "5·10⁻⁴"), (1e-3, "0.001")],
)
def test_a_tick_is_a_plain_number_or_a_power_of_ten(value, text):
    assert plain(value) == text
