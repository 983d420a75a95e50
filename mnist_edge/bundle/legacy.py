"""Support for version 0.1.0: its ``training.json`` is still read, so that nobody has to retrain."""

from typing import Final

import msgspec

from mnist_edge.bundle.decoding import decode
from mnist_edge.bundle.records import TrainingRecord
from mnist_edge.contract import BATCH_AXIS, HEIGHT, INPUT_NAME, OUTPUT_NAME, WIDTH, Contract
from mnist_edge.errors import ModelFormatError

TRAINING_VERSION: Final = 2

RENAMED: Final = {"average": "ema_decay", "held_out": "calibration_split"}
"""Fields of the recipe, from old name to new."""


def training_record(content: bytes, where: str, remedy: str) -> TrainingRecord:
    """Read a ``training.json`` of 0.1.0, translating its field names. The record keeps its version.

    Raises:
        ModelFormatError: the file is malformed.
    """
    found = decode(content, dict[str, msgspec.Raw], where, remedy)
    try:
        found["preprocessing"] = found.pop("framing")
        recipe = decode(bytes(found["recipe"]), dict[str, msgspec.Raw], where, remedy)
    except KeyError as error:
        raise ModelFormatError(f"{where}: malformed ({error} is missing): {remedy}") from error
    renamed = {RENAMED.get(name, name): value for name, value in recipe.items()}
    found["recipe"] = msgspec.Raw(msgspec.json.encode(renamed))
    found["kind"] = msgspec.Raw(b'"trained"')
    return decode(msgspec.json.encode(found), TrainingRecord, where, remedy)


def contract(of: Contract) -> dict[str, object]:
    """The form of a contract that 0.1.0 hashed into a model's digest."""
    return {
        "version": 1,
        "input": {"name": INPUT_NAME, "dtype": "uint8", "shape": [BATCH_AXIS, 1, HEIGHT, WIDTH]},
        "output": {"name": OUTPUT_NAME, "dtype": "float32", "shape": [BATCH_AXIS, len(of.labels)]},
        "labels": of.labels,
        "normalization": msgspec.to_builtins(of.normalization),
        "framing": of.preprocessing.value,
        "calibration": None,
    }
