"""What the notebooks of the course share. Start with ``import mnist_lab as lab``.

Each name is imported when it is first used: ``lab.fit`` loads PyTorch, the command line's help not.
"""

import os

import lazy_loader

# Threads that wait for work sleep. Spinning, they slow a training twentyfold where another program
# needs a core. It is read when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "data": ["Digits", "Images", "load_digits"],
        "splits": ["Split", "random_split", "stratified_folds", "stratified_split"],
        "transforms": ["Augmentation", "augment", "normalise", "prepare", "to_unit_interval"],
        "models": ["multiply_adds", "output_size", "parameter_count", "trace_shapes"],
        "recipes": [
            "ACCURATE", "FAST", "READER", "REPORT_A", "REPORT_B", "REPORT_B_CODE", "STRONG",
            "Recipe",
        ],
        "fits": ["Diverged", "Fit", "History"],
        "training": ["fit", "predict", "train_one_epoch"],
        "devices": ["pick_device"],
        "evaluation": [
            "Scores", "accuracy", "probabilities", "score", "wilson_interval",
        ],
        "handwriting.pad": ["Pad"],
        "handwriting.pictures": ["PictureError"],
        "handwriting.reading": ["ReadDigit", "Reading", "read"],
        "study.statistics": [
            "McNemar", "Mean", "holm", "mcnemar", "mean_interval", "moderated_differences",
            "paired_difference", "paired_p", "pareto_front", "repeats_needed",
        ],
        "study.ideas": ["Idea"],
        "study.predictions": ["frequent_confusions", "per_class_table"],
        "study.store": ["Store", "open_store"],
        "study.sweeps": ["Failed", "finished"],
        "course.exercises": ["check"],
        "course.settings": ["check_parameters"],
        "course.run": ["RunFolder", "open_run"],
        "study.search": ["search_results"],
    },
)  # fmt: skip
