"""Facts of a model in words, for `info` and for the report."""

from collections.abc import Mapping
from typing import Final

from mnist_edge.contract import BATCH_AXIS, HEIGHT, INPUT_NAME, OUTPUT_NAME, TO_TENSOR, WIDTH, Contract, Preprocessing

INPUT: Final = f"{INPUT_NAME}: uint8 [{BATCH_AXIS}, 1, {HEIGHT}, {WIDTH}]"
"""The tensor that every graph takes."""

IN_MEMORY: Final = "a module in memory"
"""Where weights come from that no file held."""

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


def limit(probability: float) -> str:
    """A limit as a command takes it, with all its digits: rounded, it would part other images.

    >>> limit(0.99995), limit(1.0)
    ('0.99995', '1')
    """
    return repr(probability).removesuffix(".0")


def percent(share: float, digits: int = 2) -> str:
    """A share.

    >>> percent(0.99640)
    '99.64 %'
    """
    return f"{100 * share:.{digits}f} %"


def points(difference: float, *, signed: bool = False) -> str:
    """The difference of two shares in percentage points. What is rounded to zero has no sign.

    >>> points(-0.00002), points(-0.0123), points(0.0123, signed=True)
    ('0.00', '−1.23', '+1.23')
    """
    rounded = round(100 * difference, 2) or 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.2f}".replace("-", "−")


def size(count: int) -> str:
    """A number of bytes.

    >>> size(79108)
    '79.1 KB'
    """
    return f"{count / 1000:,.1f} KB"


def versions(packages: Mapping[str, str]) -> str:
    """Packages and their versions.

    >>> versions({"torch": "2.14.1"})
    'torch 2.14.1'
    """
    return ", ".join(f"{package} {version}" for package, version in packages.items())


def output(contract: Contract) -> str:
    """The tensor that the graph returns."""
    return f"{OUTPUT_NAME}: float32 [{BATCH_AXIS}, {len(contract.labels)}]"
