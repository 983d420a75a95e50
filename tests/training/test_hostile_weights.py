"""Tensors and archives that are not what they seem, in every file of weights that is read: one line, little memory."""

import collections
import io
import resource
import struct
import warnings
import zipfile

import pytest
import torch
from msgspec import structs

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.source import Source
from mnist_edge.errors import ModelFormatError
from mnist_edge.training import checkpoint
from mnist_edge.training.models import build
from mnist_edge.training.train import begin, resume
from mnist_edge.training.weights import read_weights
from tests.helpers import cli_in_process, fails, quick_recipe, subset, train

MOST_BYTES = 400 * 2**20
"""By which no reading may raise the most memory that this process has used."""

MODEL = Architecture.CNN_NANO


def quietly(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse, quantized and nested tensors are prototypes
        return make()


TENSORS = {
    # layouts
    "COO": lambda weight: weight.to_sparse(),
    "hybrid COO": lambda weight: weight.to_sparse(1),
    "empty COO": lambda weight: torch.sparse_coo_tensor(torch.zeros(weight.ndim, 0), torch.zeros(0), weight.shape),
    "COO of 10^15": lambda weight: torch.sparse_coo_tensor(torch.zeros(2, 1), torch.ones(1), (10**8, 10**7)),
    "CSR": lambda weight: weight.flatten(1).to_sparse_csr(),
    "CSC": lambda weight: weight.flatten(1).to_sparse_csc(),
    "BSR": lambda weight: torch.zeros(4, 4).to_sparse_bsr((2, 2)),
    "BSC": lambda weight: torch.zeros(4, 4).to_sparse_bsc((2, 2)),
    # quantized
    "qint8": lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
    "quint8": lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.quint8),
    "qint32": lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint32),
    "quantized by channel": lambda weight: torch.quantize_per_channel(
        weight, torch.ones(len(weight)), torch.zeros(len(weight)), 0, torch.qint8
    ),
    "quantized and expanded": lambda weight: torch.quantize_per_tensor(torch.zeros(1), 0.1, 0, torch.qint8).expand(
        10**5, 10**5
    ),
    # no values
    "meta": lambda weight: weight.to("meta"),
    "meta of 40 GB": lambda weight: torch.empty(10**5, 10**5, device="meta"),
    "meta of another dtype": lambda weight: torch.empty(weight.shape, device="meta", dtype=torch.int64),
    "meta sparse": lambda weight: torch.empty(weight.shape, device="meta").to_sparse(),
    "empty": lambda weight: torch.empty(0),
    # nested
    "nested": lambda weight: torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)]),
    "jagged": lambda weight: torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)], layout=torch.jagged),
    "nested of one": lambda weight: torch.nested.nested_tensor([weight]),
    "nested of none": lambda weight: torch.nested.nested_tensor([]),
    "nested of many": lambda weight: torch.nested.nested_tensor([torch.zeros(1)] * 1000),
    # strides and shapes
    "40 GB": lambda weight: torch.zeros(1).expand(10**5, 10**5),
    "10^18 bytes": lambda weight: torch.zeros(1).expand(10**9, 10**8),
    "overlapping": lambda weight: torch.zeros(10).as_strided((9, 2), (1, 1)),
    "a number": lambda weight: weight.flatten()[0],
    "one dimension": lambda weight: weight.flatten(),
    "64 dimensions": lambda weight: torch.zeros([1] * 64),
    "no rows": lambda weight: torch.zeros(0, *weight.shape[1:]),
    "transposed": lambda weight: weight.transpose(0, 1),
    # bits and dtypes
    "conjugated": lambda weight: weight.to(torch.complex64).conj(),
    "negated": lambda weight: weight.to(torch.complex64).conj().imag,
    "complex64": lambda weight: weight.to(torch.complex64),
    "complex128": lambda weight: weight.to(torch.complex128),
    "complex32": lambda weight: weight.to(torch.complex32),
    "bool": lambda weight: weight.bool(),
    "uint16": lambda weight: weight.to(torch.uint16),
    "int64": lambda weight: weight.long(),
    "float8": lambda weight: weight.to(torch.float8_e5m2),
    "two in a byte": lambda weight: torch.zeros(weight.shape, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    # no plain tensors
    "a number in Python": lambda weight: 3.0,
    "nothing": lambda weight: None,
    "a list": lambda weight: weight.tolist(),
    "a list of tensors": lambda weight: [weight],
    "a dictionary": lambda weight: {"weight": weight},
    "text": lambda weight: "x" * 10**6,
    "a dtype": lambda weight: torch.float32,
    "a size": lambda weight: weight.shape,
    # values
    "NaN": lambda weight: torch.full_like(weight, torch.nan),
    "one NaN": lambda weight: torch.where(torch.arange(weight.numel()).view_as(weight) == 3, torch.nan, weight),
    "infinite": lambda weight: torch.full_like(weight, torch.inf),
    "minus infinity": lambda weight: torch.full_like(weight, -torch.inf),
    "beyond float32": lambda weight: torch.full_like(weight, 1e300, dtype=torch.float64),
}


def saved(value, **options):
    buffer = io.BytesIO()
    quietly(lambda: torch.save(value, buffer, **options))
    return buffer.getvalue()


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def refuses(read, *, pieces=()):
    """Assert that reading raises one short line, in little memory."""
    before = peak()
    with pytest.raises(ModelFormatError) as raised:
        quietly(read)
    message = str(raised.value)
    assert len(message) < 1200
    assert "\n" not in message
    assert peak() - before < MOST_BYTES
    for piece in pieces:
        assert piece in message


@pytest.fixture(scope="module")
def data(mnist):
    return subset(mnist, 600, 100)


@pytest.fixture(scope="module")
def bundle(data, tmp_path_factory):
    """A bundle's first half and a checkpoint, after one epoch of two."""
    folder = tmp_path_factory.mktemp("weights") / "bundle"
    recipe = structs.replace(quick_recipe(MODEL), ema_decay=0.9)
    train(data, MODEL, structs.replace(recipe, epochs=1), folder)
    with begin(data, MODEL, recipe, folder.with_name("unfinished")) as training:
        training.run_epoch()
        checkpoint.save(folder.with_name("unfinished"), training, data)
    (folder.with_name("unfinished") / "checkpoint.pth").rename(folder / "checkpoint.pth")
    return folder


@pytest.fixture(scope="module")
def weights(bundle):
    return torch.load(bundle / "model.pth", weights_only=True)


@pytest.fixture(scope="module")
def state(bundle):
    return torch.load(bundle / "checkpoint.pth", weights_only=True)


def exchange(bundle, name, content):
    class Exchanged:
        def __enter__(self):
            self.before = (bundle / name).read_bytes()
            (bundle / name).write_bytes(content)

        def __exit__(self, *_):
            (bundle / name).write_bytes(self.before)

    return Exchanged()


WHERE = "features.4.weight"  # [16, 16, 3, 3]


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_tensor_is_no_weight(bundle, weights, tmp_path, name, legacy):
    try:
        odd = quietly(lambda: TENSORS[name](weights[WHERE]))
        content = saved(weights | {WHERE: odd}, _use_new_zipfile_serialization=not legacy)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        pytest.skip(f"this torch cannot save it: {error!s:.100}")
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    expected = build(MODEL, 10).state_dict()
    if name not in EQUAL:
        refuses(lambda: read_weights(path, expected, MODEL), pieces=[str(path)])
        with exchange(bundle, "model.pth", content):
            refuses(lambda: checkpoint.load(bundle), pieces=[str(bundle), "train again"])


EQUAL = ("transposed",)
"""Of the right shape and with the strides of a view: as good as any, though the digest of a bundle differs."""


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("part", ["model", "averaged", "optimizer", "generator"])
def test_a_tensor_is_no_part_of_a_training(bundle, data, state, name, part):
    if name in EQUAL and part != "generator":
        return
    changed = state | {"state": dict(state["state"])}
    try:
        odd = quietly(lambda: TENSORS[name](state["state"]["model"][WHERE]))
        put_into(changed["state"], part, odd)
        content = saved(changed)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        pytest.skip(f"this torch cannot save it: {error!s:.100}")
    with exchange(bundle, "checkpoint.pth", content):
        refuses(lambda: resumed(bundle, data), pieces=["checkpoint.pth", "train again"])


def put_into(state, part, value):
    if part == "generator":
        state["generator"] = value
    elif part == "optimizer":
        remembered = state["optimizer"]["state"]
        number = next(number for number, each in remembered.items() if each["momentum_buffer"].ndim == 4)
        state["optimizer"] = state["optimizer"] | {"state": remembered | {number: {"momentum_buffer": value}}}
    else:
        state[part] = state[part] | {WHERE if part == "model" else f"module.{WHERE}": value}


def resumed(bundle, data):
    with resume(data, checkpoint.load_paused(bundle), bundle):
        pass


def test_what_is_unchanged_is_resumed(bundle, data):
    resumed(bundle, data)
    assert checkpoint.load(bundle).model is not None


STATES = {
    "no model": {"model": None},
    "no averages": {"averaged": None},
    "an empty model": {"model": {}},
    "no optimizer": {"optimizer": None},
    "an optimizer of text": {"optimizer": "x"},
    "weights that are not there": {"optimizer": {"state": {10**6: {}}}},
    "negative weights": {"optimizer": {"state": {-1: {}}}},
    "weights by name": {"optimizer": {"state": {"0": {}}}},
    "nothing remembered": {"optimizer": {"state": {0: {}}}},
    "weights by NaN": {"optimizer": {"state": {float("nan"): {}}}},
    "no scheduler": {"scheduler": {}},
    "no rates": {"scheduler": {"_last_lr": []}},
    "a rate of NaN": {"scheduler": {"_last_lr": [float("nan")]}},
    "a rate below zero": {"scheduler": {"_last_lr": [-1.0]}},
    "a rate of text": {"scheduler": {"_last_lr": ["x"]}},
    "a rate of 400 digits": {"scheduler": {"_last_lr": [10**400]}},
    "no generator": {"generator": None},
    "a generator of zeros": {"generator": torch.zeros(5056, dtype=torch.uint8)},
    "a short generator": {"generator": torch.zeros(3, dtype=torch.uint8)},
    "a generator of ones": {"generator": torch.full((5056,), 255, dtype=torch.uint8)},
    "no epochs": {"epochs": None},
    "too many epochs": {"epochs": "twice"},
    "a million epochs": {"epochs": "million"},
    "epochs of text": {"epochs": ["x"]},
    "an epoch too few": {"epochs": []},
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_is_no_training(bundle, data, state, name):
    exchanged = dict(STATES[name])
    (epoch,) = state["state"]["epochs"]
    exchanged = {
        key: {"twice": [epoch] * 2, "million": [0] * 10**6}.get(str(value)[:10], value)
        for key, value in exchanged.items()
    }
    with exchange(bundle, "checkpoint.pth", saved(state | {"state": state["state"] | exchanged})):
        refuses(lambda: resumed(bundle, data), pieces=["checkpoint.pth", "train again"])


HEADS = {
    "version": [None, "4", 10**400, -1, 5, 4.0],
    "architecture": [None, "resnet", 3, {"place": "x"}, ["cnn"], "x" * 10**6],
    "recipe": [None, {}, {"lr": 0.1}, [1], "x"],
    "seed": [None, -1, 2**63, 10**400, 1.5, "x"],
    "source": [None, 3, "x" * 10**6, ["mnist"], {}],
    "digests": [None, [], {"train-images": "x"}, {1: "0" * 64}, {str(number): "0" * 64 for number in range(101)}],
    "device": [None, 0, "x" * 10**4, ["cpu"], {}],
    "threads": [0, -1, 10**9, "1", 1.5],
    "state": [None, [], {}, "x", {"epochs": 3}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in HEADS.items() for value in values])
def test_a_checkpoint_holds_no(bundle, state, key, value):
    with exchange(bundle, "checkpoint.pth", saved(state | {key: value})):
        refuses(lambda: checkpoint.load_paused(bundle), pieces=["checkpoint.pth", "train again"])


RECIPES = {
    "calibration_split": [1, -1, 2**40],
    "epochs": [0, 10**6, 2.5],
    "batch_size": [0, 10**9],
    "lr": [0.0, float("nan"), float("inf"), -1.0],
    "ema_decay": [1.0, -0.5],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in RECIPES.items() for value in values])
def test_a_recipe_has_no(bundle, state, key, value):
    with exchange(bundle, "checkpoint.pth", saved(state | {"recipe": state["recipe"] | {key: value}})):
        refuses(lambda: checkpoint.load_paused(bundle), pieces=["checkpoint.pth", "train again"])


def rezipped(content, change=lambda name, data: data, compression=zipfile.ZIP_STORED, extra=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(buffer, "w", compression) as copy:
        for entry in archive.infolist():
            copy.writestr(entry.filename, change(entry.filename, archive.read(entry)))
        for name, data in extra:
            quietly(lambda: copy.writestr(name, data))  # noqa: B023  # called at once
    return buffer.getvalue()


def of_data(replacement):
    return lambda name, data: replacement if name.endswith("data/0") else data


def directory(content, offset, layout, value):
    """The archive with a field of every entry in its directory exchanged."""
    changed, at = bytearray(content), -1
    while (at := content.find(b"PK\1\2", at + 1)) >= 0:
        struct.pack_into(layout, changed, at + offset, value)
    return bytes(changed)


def at_end(content, record, offset, value):
    """The archive with a field of a zip64 record at its end exchanged."""
    changed = bytearray(content)
    struct.pack_into("<Q", changed, content.rindex(record) + offset, value)
    return bytes(changed)


def overlapping(content):
    """All entries begin where the first does."""
    return directory(content, 42, "<I", 0)


ARCHIVES = {
    "deflated": lambda content: rezipped(content, compression=zipfile.ZIP_DEFLATED),
    "bzip2": lambda content: rezipped(content, compression=zipfile.ZIP_BZIP2),
    "LZMA": lambda content: rezipped(content, compression=zipfile.ZIP_LZMA),
    "a bomb": lambda content: rezipped(content, of_data(bytes(10**8)), zipfile.ZIP_DEFLATED),
    "a bomb beside": lambda content: rezipped(content, compression=zipfile.ZIP_DEFLATED, extra=[("a/b", bytes(10**8))]),
    "overlapping entries": overlapping,
    "an entry twice": lambda content: rezipped(content, extra=[("archive/data.pkl", b"N.")]),
    "an entry in two folders": lambda content: rezipped(content, extra=[("other/data.pkl", b"N.")]),
    "size of 4 GB": lambda content: directory(content, 24, "<I", 2**32 - 2),
    "zip64 sizes without zip64": lambda content: directory(content, 24, "<I", 2**32 - 1),
    "offset of 4 GB": lambda content: directory(content, 42, "<I", 2**32 - 2),
    "an unknown method": lambda content: directory(content, 10, "<H", 99),
    "encrypted": lambda content: directory(content, 8, "<H", 1),
    "a wrong CRC": lambda content: directory(content, 16, "<I", 1),
    "a directory of 2^62 bytes": lambda content: at_end(content, b"PK\6\6", 40, 2**62),
    "a directory beyond the file": lambda content: at_end(content, b"PK\6\6", 48, 2**62),
    "no end": lambda content: content.replace(b"PK\5\6", b"PK\0\0"),
    "half": lambda content: content[: len(content) // 2],
    "without its pickle": lambda content: content.replace(b"data.pkl", b"data.pk_"),
    "without storages": lambda content: content.replace(b"data/", b"dat_/"),
    "another byte order": lambda content: rezipped(
        content, lambda name, data: b"middle" if name.endswith("byteorder") else data
    ),
    "shorter storages": lambda content: rezipped(content, lambda name, data: data[:8] if "/data/" in name else data),
    "empty storages": lambda content: rezipped(content, lambda name, data: b"" if "/data/" in name else data),
}


def refused_by_all(bundle, path, content):
    """Whatever reads weights refuses that content."""
    path.write_bytes(content)
    refuses(lambda: read_weights(path, build(MODEL, 10).state_dict(), MODEL), pieces=[str(path)])
    for file, read in (("model.pth", checkpoint.load), ("checkpoint.pth", checkpoint.load_paused)):
        with exchange(bundle, file, content):
            refuses(lambda: read(bundle), pieces=[file, "train again"])  # noqa: B023  # called at once


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_not_read(bundle, weights, tmp_path, name):
    content = ARCHIVES[name](saved(weights))
    refused_by_all(bundle, tmp_path / "weights.pth", content)


def with_attributes(weights):
    """A file of a dictionary whose methods are hidden by numbers."""
    ordered, names = collections.OrderedDict(weights), ("items", "values", "keys", "get", "copy")
    for name in names:
        setattr(ordered, name.upper(), 3)
    content = saved(ordered, _use_new_zipfile_serialization=False)
    for name in names:
        content = content.replace(name.upper().encode(), name.encode())
    return content


DICTIONARIES = {
    "a million keys": lambda weights: weights | {str(number): 0 for number in range(10**6)},
    "100,000 keys": lambda weights: weights | {str(number): 0 for number in range(10**5)},
    "keys of numbers": lambda weights: dict(enumerate(weights.values())),
    "keys of tuples": lambda weights: {(name,): tensor for name, tensor in weights.items()},
    "keys of bytes": lambda weights: {name.encode(): tensor for name, tensor in weights.items()},
    "a key of None": lambda weights: weights | {None: 1},
    "a key of a million characters": lambda weights: weights | {"x" * 10**6: torch.zeros(1)},
    "a key that escapes": lambda weights: weights | {"\x1b[2J\0": torch.zeros(1)},
    "a lone surrogate": lambda weights: weights | {"\ud800": torch.zeros(1)},
    "hidden methods": lambda weights: with_attributes(weights | {"x": torch.zeros(1)}),
    "a Counter": lambda weights: collections.Counter("abc"),
    "a list": lambda weights: list(weights.items()),
    "a set": set,
    "a tensor": lambda weights: torch.zeros(3),
    "one tensor for all": lambda weights: dict.fromkeys(weights, torch.zeros(1)),
    "itself": lambda weights: itself(),
    "nothing": lambda weights: None,
}


def itself():
    found = {}
    found["x"] = found
    return found


@pytest.mark.parametrize("name", DICTIONARIES)
def test_a_dictionary_holds_no_weights(bundle, weights, tmp_path, name):
    try:
        made = DICTIONARIES[name](weights)
        content = made if isinstance(made, bytes) else saved(made)
    except UnicodeEncodeError as error:
        pytest.skip(f"cannot be saved: {error}")
    refused_by_all(bundle, tmp_path / "weights.pth", content)


def shared(weights):
    """All floats in one storage."""
    floats = torch.cat([tensor.flatten() for tensor in weights.values() if tensor.is_floating_point()])
    found, at = {}, 0
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            found[name] = floats[at : at + tensor.numel()].view_as(tensor)
            at += tensor.numel()
        else:
            found[name] = tensor
    return found


GOOD = {
    "shared storage": shared,
    "an OrderedDict": collections.OrderedDict,
    "buffers": lambda weights: {name: torch.nn.Buffer(tensor) for name, tensor in weights.items()},
    "methods hidden": with_attributes,
    "parameters with gradients": lambda weights: {
        name: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor for name, tensor in weights.items()
    },
    "leaves with gradients": lambda weights: {
        name: tensor.clone().requires_grad_() if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    },
    "views of larger storages": lambda weights: {
        name: torch.stack([tensor, tensor], dim=-1)[..., 0] for name, tensor in weights.items()
    },
}


@pytest.mark.parametrize("name", GOOD)
def test_sound_weights_are_read_however_they_were_saved(bundle, weights, tmp_path, name):
    made = GOOD[name](weights)
    content = made if isinstance(made, bytes) else saved(made)
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    read = read_weights(path, build(MODEL, 10).state_dict(), MODEL).state_dict
    with exchange(bundle, "model.pth", content):
        loaded = checkpoint.load(bundle).model.state_dict()
    for key, tensor in weights.items():
        assert torch.equal(read[key], tensor)
        assert torch.equal(loaded[key], tensor)
        assert not read[key].requires_grad


COMMANDS = ("export", "evaluate", "train --resume --out", "import")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["CSR", "qint8", "meta of 40 GB", "nested", "40 GB", "conjugated", "one NaN"])
def test_a_command_says_so_in_one_line(bundle, weights, state, shared_small, tmp_path, command, name):
    odd = quietly(lambda: TENSORS[name](weights[WHERE]))
    model, training = saved(weights | {WHERE: odd}), dict(state["state"])
    put_into(training, "model", odd)
    path = tmp_path / "weights.pth"
    path.write_bytes(model)
    target = {"import": path, "evaluate": bundle / "model.pth"}.get(command, bundle)
    options = ["--model", MODEL, "--out", tmp_path / "out"] if command == "import" else []
    with (
        exchange(bundle, "model.pth", model),
        exchange(bundle, "checkpoint.pth", saved(state | {"state": training})),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        result = cli_in_process(*command.split(), target, *options, "--data", shared_small, "--quiet", cwd=tmp_path)
    fails(result, 4, "pth: ")
    assert len(result.stderr.splitlines()) == 1, result.stderr


@pytest.fixture(scope="module")
def shared_small(data, tmp_path_factory):
    from tests.helpers import write_idx

    return write_idx(tmp_path_factory.mktemp("data") / "idx", data)


def test_a_source_that_is_none_is_no_architecture(bundle, state):
    for place in ("x", "a b:C", "net.py:", "x" * 6000 + ":C", "net.py:C\x1b"):
        changed = state | {"architecture": {"place": place, "arguments": {}, "sha256": ""}}
        with exchange(bundle, "checkpoint.pth", saved(changed)):
            refuses(lambda: checkpoint.load_paused(bundle), pieces=["malformed", "train again"])
    assert Source(place="", arguments={}, sha256="").place == ""
