"""What the notebooks of the course share. Start with ``import mnist_lab as lab``."""

from mnist_lab import calibration, figures, loops, shifts
from mnist_lab.data import Digits, Images, load_digits
from mnist_lab.evaluation import (
    McNemar,
    Mean,
    Scores,
    accuracy,
    counts_per_class,
    frequent_confusions,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    per_class_table,
    probabilities,
    reachable_f1,
    repeats_needed,
    score,
    wilson_interval,
)
from mnist_lab.recipes import ACCURATE, FAST, REPORT_A, REPORT_B, REPORT_B_CODE, STRONG, Recipe
from mnist_lab.run import Run, open_run
from mnist_lab.search import search_results
from mnist_lab.shapes import multiply_adds, output_size, parameter_count, trace_shapes
from mnist_lab.splits import (
    Split,
    exact_duplicates,
    random_split,
    stratified_folds,
    stratified_split,
)
from mnist_lab.store import Store, open_store
from mnist_lab.sweeps import Failed, finished
from mnist_lab.training import Diverged, Fit, History, epoch_order, fit, pick_device, predict
from mnist_lab.transforms import Augmentation, augment, normalise, prepare, to_unit_interval

__all__ = [
    "ACCURATE",
    "FAST",
    "REPORT_A",
    "REPORT_B",
    "REPORT_B_CODE",
    "STRONG",
    "Augmentation",
    "Digits",
    "Diverged",
    "Failed",
    "Fit",
    "History",
    "Images",
    "McNemar",
    "Mean",
    "Recipe",
    "Run",
    "Scores",
    "Split",
    "Store",
    "accuracy",
    "augment",
    "calibration",
    "counts_per_class",
    "epoch_order",
    "exact_duplicates",
    "figures",
    "finished",
    "fit",
    "frequent_confusions",
    "holm",
    "load_digits",
    "loops",
    "mcnemar",
    "mean_interval",
    "multiply_adds",
    "normalise",
    "open_run",
    "open_store",
    "output_size",
    "paired_difference",
    "parameter_count",
    "per_class_table",
    "pick_device",
    "predict",
    "prepare",
    "probabilities",
    "random_split",
    "reachable_f1",
    "repeats_needed",
    "score",
    "search_results",
    "shifts",
    "stratified_folds",
    "stratified_split",
    "to_unit_interval",
    "trace_shapes",
    "wilson_interval",
]
