"""Turn any picture into the canonical 28×28 form, for prediction and for training on image folders.

`runtime` and `data` share this package because both must see the same pixels. Pillow is imported when the first picture
is decoded or resized, so arrays in MNIST's form can be classified without it.
"""

from mnist_edge.images.canonical import has_ink, preprocess, preprocess_counting
from mnist_edge.images.files import (
    PAGED,
    SAMPLES,
    SUFFIXES,
    Grey,
    Page,
    Source,
    decode,
    decode_scaled,
    find,
    grey_scaled,
    is_file,
    pages,
)

__all__ = [
    "PAGED",
    "SAMPLES",
    "SUFFIXES",
    "Grey",
    "Page",
    "Source",
    "decode",
    "decode_scaled",
    "find",
    "grey_scaled",
    "has_ink",
    "is_file",
    "pages",
    "preprocess",
    "preprocess_counting",
]
