"""One function per figure: data in, ``Figure`` out. Nothing is saved and nothing is global.

Every title is passed in by whoever knows the finding.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "data": ["class_counts", "class_share_difference", "embeddings", "image_grid",
                 "pixel_histogram"],
        "network": ["filters_and_maps", "loss_curves", "loss_slice", "receptive_fields",
                    "validation_curves"],
        "evaluation": ["confusion_heatmap", "coverage_plot", "recall_by_class",
                       "reliability_diagram"],
        "comparison": ["accuracy_under_shift", "forest_plot", "interval_plot", "response_curves",
                       "time_and_accuracy"],
        "handwriting": ["reading_figure", "sheet_figure"],
    },
)  # fmt: skip
