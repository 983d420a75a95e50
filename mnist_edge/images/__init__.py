"""From a picture to the canonical 28×28: what the runtime predicts on and what an image folder trains on.

It stands above both rooms, `runtime` and `data`, because the two must see the same pixels. Pillow is imported on the
first decoding, so that arrays can be classified without it.
"""

from mnist_edge.images.canonical import has_ink, preprocess
from mnist_edge.images.files import SUFFIXES, decode, find, grey

__all__ = ["SUFFIXES", "decode", "find", "grey", "has_ink", "preprocess"]
