"""Handwriting read: from a picture to its digits, step by step.

``open_picture`` → ``find_ink`` → ``find_digits`` → ``to_mnist_form`` → a network's answer; ``read``
does all of it. Each name is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pictures": ["PictureError", "open_picture"],
        "ink": ["Ink", "NoInk", "find_ink"],
        "segments": ["Piece", "find_digits"],
        "form": ["to_mnist_form"],
        "reading": ["ReadDigit", "Reading", "digit_image", "read"],
        "measuring": ["read_labelled", "share_right"],
    },
)
