"""Facts of a model in words, for `info` and for the report."""

from typing import Final

from mnist_edge.contract import TO_TENSOR, Contract, Preprocessing

PREPROCESSING: Final = {
    Preprocessing.MNIST: "images are cropped to the ink, scaled to fit 20×20 and centred by mass",
    Preprocessing.WHOLE: "images are scaled whole, without cropping",
}


def normalization(contract: Contract) -> str:
    """The formula that the graph computes.

    >>> from mnist_edge.contract import DIGITS, STANDARDIZED
    >>> normalization(Contract(DIGITS, STANDARDIZED, Preprocessing.MNIST))
    '(pixel / 255 - 0.1307) / 0.3081'
    """
    pixel = "(255 - pixel)" if contract.inverted else "pixel"
    mean, std = contract.normalization.mean, contract.normalization.std
    scaled = f"{pixel} / 255" if contract.normalization == TO_TENSOR else f"({pixel} / 255 - {mean:g}) / {std:g}"
    return f"{scaled}{', transposed' if contract.transposed else ''}"
