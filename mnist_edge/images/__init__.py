"""Turn any picture into the canonical 28×28 form, for prediction and for training on image folders.

`runtime` and `data` share this package because both must see the same pixels. Pillow is imported when the first picture
is decoded, so arrays can be classified without it.
"""

from mnist_edge.images.canonical import has_ink, preprocess, preprocess_counting
from mnist_edge.images.files import SUFFIXES, decode, find, grey

__all__ = ["SUFFIXES", "decode", "find", "grey", "has_ink", "preprocess", "preprocess_counting"]
