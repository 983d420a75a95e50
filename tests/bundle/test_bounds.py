"""The bounds of the records' fields: the last value that is taken, and the first that is not."""

from types import SimpleNamespace
from typing import get_type_hints

import msgspec
import pytest

from mnist_edge.bundle import decoding, layout, reading, recipe, records, source
from mnist_edge.bundle.recipe import Recipe
from mnist_edge.errors import ModelFormatError, UsageError

LEAST = 5e-324  # the smallest positive float64
NEXT = 1 - 2**-53  # the largest below 1
TRAINED = {"normalization": {"mean": 0.5, "std": 0.25}, "optimizer": "sgd", "lr": 0.1}


@pytest.mark.parametrize(
    ("field", "right", "wrong"),
    [
        ("lr", [LEAST, 1e12], [0, -0.5, 1e12 + 0.5]),
        ("epochs", [1, 5000], [0, 5001]),
        ("batch_size", [1, 1_000_000], [0, 1_000_001]),
        ("weight_decay", [0, 1e12], [-LEAST, 1e12 + 0.5]),
        ("outliers", [0, 1], [-LEAST, 1.5]),
        ("calibration_split", [0, 2**31], [-1, 2**31 + 1]),
        *[(name, [0, NEXT], [-LEAST, 1]) for name in ("momentum", "label_smoothing", "drawn_digits", "ema_decay")],
    ],
)
def test_fields_of_a_recipe(field, right, wrong):
    for value in right:
        assert getattr(msgspec.convert(TRAINED | {field: value}, Recipe), field) == value
    for value in wrong:
        with pytest.raises(msgspec.ValidationError, match=rf"\$\.{field}"):
            msgspec.convert(TRAINED | {field: value}, Recipe)


def typed(kind, field):
    return get_type_hints(kind, include_extras=True)[field]


def numbered(count, value):
    return {str(number): value for number in range(count)}


EPOCH = {
    "number": 1,
    "lr": 0.1,
    "train_loss": 0.5,
    "seconds": 1.0,
    "training_seconds": 1.0,
    "test": {"loss": 0.5, "correct": 9, "total": 10, "accuracy": 0.9},
}


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (recipe.Seed, [0, 2**63 - 1], [-1, 2**63]),
        (source.Argument, [-(2**63) + 1, 2**63 - 1, True, 0.5], [-(2**63), 2**63]),
        (source.Place, ["x" * 5000], ["x" * 5001]),
        (records.Versions, [numbered(100, "1")], [numbered(101, "1")]),
        (records.Digests, [numbered(100, "0" * 64)], [numbered(101, "0" * 64)]),
        (typed(source.Source, "arguments"), [numbered(100, 1)], [numbered(101, 1)]),
        (typed(source.Source, "sha256"), ["", "0" * 64], ["0" * 65]),
        (typed(records.Parity, "batch_sizes"), [numbered(100, 1)], [numbered(101, 1)]),
        (typed(records.Parity, "variants"), [("x",) * 100], [("x",) * 101]),
    ],
)
def test_types_of_fields(kind, right, wrong):
    for value in right:
        assert msgspec.convert(value, kind) == value
    for value in wrong:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(value, kind)


def test_a_training_has_epochs_but_not_too_many():
    kind = typed(records.TrainingRecord, "epochs")
    for count in (1, 5000):
        assert len(msgspec.convert([EPOCH] * count, kind)) == count
    for count in (0, 5001):
        with pytest.raises(msgspec.ValidationError, match="length"):
            msgspec.convert([EPOCH] * count, kind)


def test_sizes_of_files(tmp_path):
    assert (layout.LARGEST_JSON, layout.LARGEST_FILE, layout.LARGEST_CHECKPOINT) == (16 << 20, 256 << 20, 1 << 30)
    large = tmp_path / "model.onnx"
    with large.open("wb") as file:
        file.truncate((256 << 20) + 1)  # takes no room
    with pytest.raises(ModelFormatError, match="do this"):
        reading.read_file(large, "do this")


def test_files_that_grow_while_they_are_read(tmp_path, monkeypatch):
    file = tmp_path / "it"
    file.write_bytes(bytes(11))
    monkeypatch.setattr(reading.os, "fstat", lambda descriptor: SimpleNamespace(st_mode=0o100644, st_size=0))
    assert reading.read_file(file, "do this", 11) == bytes(11)
    with pytest.raises(ModelFormatError, match="larger than the limit of 10 bytes: do this"):
        reading.read_file(file, "do this", 10)


def test_errors_are_cut_short_beyond_200_characters():
    assert decoding._in_one_line("x" * 200) == "x" * 200
    assert decoding._in_one_line("a" * 101 + "b" * 100) == "a" * 100 + "…" + "b" * 100


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63) + 1])
def test_the_largest_arguments(number):
    assert source.parse_arguments([f"width={number}"]) == {"width": number}
    with pytest.raises(UsageError, match="larger than 9223372036854775807"):
        source.parse_arguments([f"width={number + (1 if number > 0 else -1)}"])


def test_arguments_are_unicode():
    with pytest.raises(UsageError, match="is not UTF-8: give other text"):
        source.parse_arguments(["name=\udcff"])
    with pytest.raises(UsageError, match="is not UTF-8: rename the file"):
        source.split_place("\udcff.py:Net")
