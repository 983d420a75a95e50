"""Weights from elsewhere: what is read, and what each unusable file is called."""

import collections
import copy
import functools
import io
import json
import os
import pickle
import random
import struct
import sys
import time
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from mnist_edge.bundle.checksum import sha256
from mnist_edge.errors import MissingExtraError, ModelFormatError, ModelNotFoundError
from mnist_edge.training import weight_files
from mnist_edge.training.weights import read_weights


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 4)
        self.bn = nn.BatchNorm1d(4)
        self.fc2 = nn.Linear(4, 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def trained():
    """The state_dict of a model that differs from a fresh one in every value; all are exact in half precision."""
    return {name: torch.full_like(tensor, index + 2) for index, (name, tensor) in enumerate(small().items())}


@functools.cache
def small():
    return Small().state_dict()


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def prefixed(prefix, weights=None):
    return {prefix + name: tensor for name, tensor in (weights or trained()).items()}


def changed(**tensors):
    """The trained weights, with some exchanged; dots in names are written as two underscores."""
    return trained() | {name.replace("__", "."): tensor for name, tensor in tensors.items()}


def without(*parts):
    return {name: tensor for name, tensor in trained().items() if not any(part in name for part in parts)}


def halved(dtype):
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in trained().items()}


def strided():
    """Every tensor is a transposed or a stepping view of a larger one."""
    views = {}
    for name, tensor in trained().items():
        views[name] = tensor.T.contiguous().T if tensor.ndim == 2 else tensor
        if tensor.ndim == 1:
            views[name] = tensor.repeat_interleave(2)[::2]
    return views


def ordered():
    weights = collections.OrderedDict(trained())
    weights._metadata = collections.OrderedDict({"": {"version": 1}})
    return weights


def a_training():
    """What scripts save: optimizers, schedulers, generators, settings, the same parts in several places."""
    module = Small()
    module.load_state_dict(trained())
    adam = torch.optim.AdamW([{"params": [weight]} for weight in module.parameters()])
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [3, 3, 8])
    sum(weight.sum() for weight in module.parameters()).backward()
    adam.step()
    weights, shape, settings = module.state_dict(), (1, 28, 28), {"lr": 0.1, "mean": (0.13,)}
    weights |= trained()
    return {
        "model": weights,
        "optimizer": adam.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "random": (random.getstate(), torch.get_rng_state()),
        "settings": [settings, settings, shape, shape, {"shape": shape, (1, 2): 3}],
        "dtype": torch.bfloat16,
        "device": torch.device("cuda:0"),
        "shape": torch.Size([1, 2]),
        "classes": {"a", "b"},
        "key": b"bytes",
        "number": 1 + 2j,
        "last": copy.copy(weights),
    }


GOOD = {
    "state_dict": (lambda: saved(trained()), []),
    "ordered with metadata": (lambda: saved(ordered()), []),
    "legacy": (lambda: saved(trained(), _use_new_zipfile_serialization=False), []),
    "parameters": (lambda: saved(dict(Small().state_dict(keep_vars=True)) | trained()), []),
    "views": (lambda: saved(strided()), []),
    "expanded": (lambda: saved(changed(fc1__bias=torch.tensor(3.0).expand(4))), []),
    "state_dict key": (lambda: saved({"epoch": 3, "state_dict": trained()}), ["found under 'state_dict'"]),
    "model key": (lambda: saved({"model": trained(), "optimizer": {"state": {}}}), ["found under 'model'"]),
    "unusual key": (lambda: saved({"classifier": trained(), "loss": torch.tensor(0.5)}), ["found under 'classifier'"]),
    "two keys": (lambda: saved({"model": {"state_dict": trained()}}), ["found under 'model.state_dict'"]),
    "in documented order": (
        lambda: saved({"ema": changed(fc1__bias=torch.zeros(4)), "net": trained()}),
        ["found under 'net'"],
    ),
    "the one that fits": (
        lambda: saved({"state_dict": {"head": torch.zeros(2)}, "network": trained()}),
        ["found under 'network'"],
    ),
    "the one whose shapes fit": (
        lambda: saved({"model": changed(fc2__bias=torch.zeros(9)), "ema": trained()}),
        ["found under 'ema'"],
    ),
    "DataParallel": (lambda: saved(prefixed("module.")), ["prefix 'module.' removed"]),
    "compiled": (lambda: saved(prefixed("_orig_mod.")), ["prefix '_orig_mod.' removed"]),
    "of a wrapping class": (lambda: saved(prefixed("backbone.")), ["prefix 'backbone.' removed"]),
    "both": (lambda: saved(prefixed("module._orig_mod.")), ["prefix 'module._orig_mod.' removed"]),
    "Lightning": (
        lambda: saved({"state_dict": prefixed("model."), "hyper_parameters": {"lr": 0.1}}),
        ["found under 'state_dict'", "prefix 'model.' removed"],
    ),
    "averaged": (lambda: saved(prefixed("module.") | {"n_averaged": torch.tensor(5)}), ["prefix 'module.' removed"]),
    "all of a training": (lambda: saved(a_training()), ["found under 'model'"]),
    "float16": (lambda: saved(halved(torch.float16)), ["converted from float16"]),
    "bfloat16": (lambda: saved(halved(torch.bfloat16)), ["converted from bfloat16"]),
    "float64": (lambda: saved(halved(torch.float64)), ["converted from float64"]),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_files_are_read(path, name):
    make, changes = GOOD[name]
    content = make()
    path.write_bytes(content)
    weights = read_weights(path, small(), "small")
    assert list(weights.state_dict) == list(small())
    for key, tensor in trained().items():
        read = weights.state_dict[key]
        if not (name == "expanded" and key == "fc1.bias"):
            assert torch.equal(read, tensor)
        assert (read.dtype, type(read), read.requires_grad) == (tensor.dtype, torch.Tensor, False)
        assert read.is_contiguous()
        assert read.untyped_storage().nbytes() == read.nbytes
    assert weights.sha256 == sha256(content)
    assert weights.changes == changes


def test_a_file_of_old_torch_has_no_batch_counter(path):
    torch.save(without("num_batches"), path)
    weights = read_weights(path, small(), "small").state_dict
    assert weights["bn.num_batches_tracked"] == 0
    Small().load_state_dict(weights)


def test_a_prefix_of_the_architecture_itself_stays(path):
    torch.save(prefixed("net."), path)
    weights = read_weights(path, prefixed("net.", small()), "wrapped")
    assert list(weights.state_dict) == list(prefixed("net."))
    assert weights.prefix == ""


def test_weights_of_a_gpu_are_read_on_the_cpu(path):
    path.write_bytes(saved(trained(), _use_new_zipfile_serialization=False).replace(b"\3\0\0\0cpu", b"\6\0\0\0cuda:0"))
    weights = read_weights(path, small(), "small").state_dict
    assert all(torch.equal(weights[name], tensor) for name, tensor in trained().items())


def test_infinities_of_a_mask_may_stay(path):
    mask = {"mask": torch.tensor([0.0, -torch.inf])}
    torch.save(mask, path)
    assert torch.equal(read_weights(path, mask, "masked").state_dict["mask"], mask["mask"])
    with pytest.raises(ModelFormatError, match="mask holds NaN or infinite"):
        read_weights(path, {"mask": torch.zeros(2)}, "masked")


def safetensors(weights):
    """Written by hand: 8 bytes of length, JSON, values."""
    header, values = {}, b""
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    for name, tensor in weights.items():
        content = tensor.numpy().tobytes()
        offsets = [len(values), len(values) + len(content)]
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        values += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def test_safetensors(path):
    pytest.importorskip("safetensors.torch")
    path.write_bytes(safetensors(trained()))
    weights = read_weights(path, small(), "small").state_dict
    assert all(torch.equal(weights[name], tensor) for name, tensor in trained().items())
    path.write_bytes(safetensors(trained())[:-1])
    with pytest.raises(ModelFormatError, match="not readable by safetensors"):
        read_weights(path, small(), "small")


def test_safetensors_without_the_package(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    path.write_bytes(safetensors(trained()))
    with pytest.raises(MissingExtraError, match="pip install safetensors"):
        read_weights(path, small(), "small")


class Touch:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return os.system, ("touch ran",)


class Settings:
    pass


def rezipped(content, compression=zipfile.ZIP_STORED, exchange=None, name="archive/data.pkl"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(buffer, "w", compression) as copy:
        for entry in archive.infolist():
            exchanged = exchange is not None and entry.filename == name
            copy.writestr(entry.filename, exchange if exchanged else archive.read(entry))
    return buffer.getvalue()


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


def pickled(opcodes):
    """A file of torch.save with another pickle."""
    return rezipped(saved(trained()), exchange=opcodes)


def torchscript():
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def twice():
    buffer = io.BytesIO(saved(trained()))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr("archive/data.pkl", b"N.")
    return buffer.getvalue()


def quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(changed(fc1__weight=torch.quantize_per_tensor(torch.zeros(4, 6), 0.1, 0, torch.qint8)))


def nested():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(changed(fc1__weight=torch.nested.nested_tensor([torch.zeros(2, 6), torch.zeros(3, 6)])))


def larger_storage(content):
    """The pickle claims 2**28 numbers where the file holds 24."""
    return content.replace(b"K\x18t", b"J\0\0\0\x10t").replace(b"K\x18Nt", b"J\0\0\0\x10Nt")


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.zeros(3))
    return buffer.getvalue()


def hiding():
    """A tensor with attributes that hide its methods."""
    methods = ("detach", "is_conj", "is_neg", "copy_", "to", "contiguous", "numpy", "isfinite")
    weight = torch.full((4, 6), torch.nan)
    for method in methods:
        setattr(weight, method.upper(), 1)
    content = saved(changed(fc1__weight=weight), _use_new_zipfile_serialization=False)
    for method in methods:
        assert method.upper().encode() in content
        content = content.replace(method.upper().encode(), method.encode())
    return content


def with_nan():
    weights = trained()
    weights["fc2.bias"][1] = torch.nan
    return saved(weights)


ADAM = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(4, 6)}}, "param_groups": [{"params": [0]}]}
SAVE = "torch.save(model.state_dict()"
ANOTHER = "another architecture: give the class"

BAD = {
    # Not a state_dict at all: what it is, and what to do.
    "empty": (b"", "empty file"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html>", "web page", "download the file itself"),
    "text": (b"epoch,loss\n1,0.5\n", "text file"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5", "Keras"),
    "keras 3": (lambda: zipped("config.json", "model.weights.h5"), "Keras"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(64), "TensorFlow Lite"),
    "onnx": (b"\x08\x0a\x12\x07pytorch", "ONNX", "PyTorch weights that it was made from"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "image"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(64), "image"),
    "npz": (npz, "NumPy arrays", "torch.from_numpy(array)"),
    "npy": (b"\x93NUMPY\1\0" + bytes(64), "NumPy array"),
    "gzip": (b"\x1f\x8b\x08" + bytes(64), "compressed", "unpack it"),
    "tar": (b"a" * 257 + b"ustar" + bytes(64), "archive", "unpack it"),
    "zip": (lambda: zipped("weights/model.pth"), "zip archive, but not of torch.save", "unpack it"),
    "noise": (bytes(range(200, 256)), "not a file that torch.save wrote"),
    "torchscript": (torchscript, "TorchScript", "torch.save(torch.jit.load('weights.pth').state_dict()"),
    "torch.export": (
        lambda: zipped("m/archive_format", "m/models/model.json"),
        "torch.export.load('weights.pth').state_dict",
    ),
    "old torch.export": (lambda: zipped("serialized_exported_program.json"), "torch.export"),
    "plain pickle": (lambda: pickle.dumps({"weight": [1.0]}), "plain pickle", SAVE),
    "pickled module": (lambda: saved(Small()), "whole pickled module", "weights_only=False).state_dict()"),
    "legacy module": (lambda: saved(nn.Linear(2, 2), _use_new_zipfile_serialization=False), "whole pickled module"),
    "plain module": (lambda: pickle.dumps(nn.Linear(2, 2)), "whole pickled module"),
    "module inside": (lambda: saved({"epoch": 1, "model": nn.Linear(2, 2)}), "whole pickled module"),
    "optimizer": (lambda: saved(ADAM), "state of an optimizer", SAVE),
    "named optimizer": (
        lambda: saved({"state": {"fc1.weight": torch.zeros(2)}, "param_groups": []}),
        "state of an optimizer",
    ),
    "tensor": (lambda: saved(torch.zeros(3)), "holds an object of type Tensor, no dict", SAVE),
    "list": (lambda: saved([torch.zeros(3)]), "holds an object of type list, no dict", SAVE),
    "number": (lambda: saved(3), "of type int"),
    "nothing": (lambda: saved({}), "no dictionary of tensors"),
    "integer keys": (lambda: saved({0: torch.zeros(3)}), "no dictionary of tensors"),
    "objects beside": (
        lambda: saved({"model": trained(), "settings": Settings()}),
        "test_weights.Settings beside",
        SAVE,
    ),
    "numpy beside": (lambda: saved({"model": trained(), "best": np.float64(0.9)}), "beside weights", SAVE),
    "protocol 4": (lambda: saved(trained(), pickle_protocol=4), "protocol 4", "without pickle_protocol="),
    # Damaged or hostile.
    "cut short": (lambda: saved(trained())[:-400], "damaged or cut short", "download it again"),
    "legacy cut short": (lambda: saved(trained(), _use_new_zipfile_serialization=False)[:-9], "damaged"),
    "legacy without weights": (
        lambda: saved(trained(), _use_new_zipfile_serialization=False)[:40],
        "damaged or cut short",
    ),
    "one bit flipped": (lambda: saved(trained()).replace(b"\0\0\0@" * 24, b"\1\0\0@" * 24), "damaged"),
    "malicious": (lambda: saved(Touch()), "would run 'posix.system'", "do not load it"),
    "malicious inside": (lambda: saved({"model": trained(), "x": Touch()}), "would run 'posix.system'"),
    "malicious pickle": (lambda: pickle.dumps(Touch()), "would run 'posix.system'"),
    "malicious legacy": (lambda: saved(Touch(), _use_new_zipfile_serialization=False), "would run 'posix.system'"),
    "malicious eval": (
        lambda: pickled(b"\x80\x02c__builtin__\neval\nX\x01\0\0\x001\x85R."),
        "would run '__builtin__.eval'",
    ),
    "deep tuple as a key": (lambda: pickled(b"\x80\x02})" + b"\x85" * 400_000 + b"K\x01s."), "far more objects"),
    "a tuple of a tuple twice as a key": (
        lambda: pickled(b"\x80\x02})q\0" + b"h\0\x86q\0" * 24 + b"K\x01s."),
        "uses an object again",
    ),
    "a tuple of a tuple twice as an argument": (
        lambda: pickled(b"\x80\x02c__builtin__\nset\n])q\0" + b"h\0\x86q\0" * 24 + b"a\x85R."),
        "uses an object again",
    ),
    "a long list copied often": (
        lambda: pickled(b"\x80\x02](" + b"K\0" * 9 + b"e\x85q\0" + b"c__builtin__\nset\nh\0R" * 9 + b"."),
        "uses an object again",
    ),
    "attributes copied often": (
        lambda: pickled(b"\x80\x02}q\0" + b"ccollections\nOrderedDict\n)Rh\0b" * 9 + b"."),
        "uses an object again",
    ),
    "bytes copied often": (
        lambda: pickled(
            b"\x80\x02X\0\x10\0\0" + b"x" * 4096 + b"q\0" + b"c_codecs\nencode\nh\0X\4\0\0\0utf8\x86R" * 9 + b"."
        ),
        "uses an object again",
    ),
    "an array of 2 GB": (
        lambda: pickled(b"\x80\x02c__builtin__\nbytearray\nJ\x00\x94\x35\x77\x85R."),
        "holds __builtin__.bytearray beside weights",
        SAVE,
    ),
    "a tensor of 8 GB": (
        lambda: pickled(b"\x80\x02ctorch\nFloatTensor\nJ\x00\x94\x35\x77\x85R."),
        "holds torch.FloatTensor beside weights",
    ),
    "a storage of 8 GB": (
        lambda: pickled(b"\x80\x02ctorch\nFloatStorage\nJ\x00\x94\x35\x77\x85R."),
        "calls 'torch.FloatStorage'",
    ),
    "a storage of 8 GB, made": (
        lambda: pickled(b"\x80\x02ctorch\nFloatStorage\nJ\x00\x94\x35\x77\x85\x81."),
        "calls 'torch.FloatStorage'",
    ),
    "a storage of 8 GB by way of another function": (
        lambda: pickled(
            b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n"
            b"(ctorch\nFloatStorage\nctorch\nTensor\nJ\x00\x94\x35\x77\x85}tR."
        ),
        "calls 'torch.FloatStorage'",
    ),
    "a set of a tensor's numbers": (
        lambda: pickled(
            zipfile.ZipFile(io.BytesIO(saved(torch.zeros(3))))
            .read("archive/data.pkl")[:-1]
            .replace(b"\x80\x02", b"\x80\x02c__builtin__\nset\n", 1)
            + b"\x85R."
        ),
        "calls '__builtin__.set' with a tensor",
    ),
    "a function that calls itself": (
        lambda: pickled(
            b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\nq\0"
            b"(h\0ctorch\nTensor\n(ctorch\nFloatStorage\nctorch\nTensor\nJ\x00\x94\x35\x77\x85}t}tR."
        ),
        "calls 'torch._tensor._rebuild_from_type_v2'",
    ),
    "many objects": (lambda: pickled(b"\x80\x02" + b"N0" * 400_000 + b"N."), "far more objects"),
    "deep list": (lambda: pickled(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), "of type list"),
    "endless list": (lambda: pickled(b"\x80\x02]q\0h\0a."), "of type list"),
    "claims too long a string": (lambda: pickled(b"\x80\x02X\xff\xff\xff\xffa."), "damaged"),
    "compressed": (lambda: rezipped(saved(trained()), zipfile.ZIP_DEFLATED), "compressed or repeated entries"),
    "bomb": (
        lambda: rezipped(saved(trained()), zipfile.ZIP_DEFLATED, bytes(10**7), "archive/data/0"),
        "compressed or repeated entries",
    ),
    "two pickles": (twice, "compressed or repeated entries"),
    "many entries": (b"PK\x03\x04" + b"PK\x01\x02" * 30_000, "far more entries"),
    "storage beyond its record": (
        lambda: pickled(larger_storage(zipfile.ZipFile(io.BytesIO(saved(trained()))).read("archive/data.pkl"))),
        "damaged, or holds what no state_dict does",
    ),
    "legacy storage beyond the file": (
        lambda: larger_storage(saved(trained(), _use_new_zipfile_serialization=False)),
        "damaged",
    ),
    # Tensors that are not what they seem.
    "sparse": (
        lambda: saved(changed(fc1__weight=torch.zeros(4, 6).to_sparse())),
        "fc1.weight is a sparse tensor",
        "dense",
    ),
    "quantized": (quantized, "fc1.weight is a quantized tensor"),
    "nested": (nested, "fc1.weight is a nested tensor"),
    "meta": (
        lambda: saved(changed(fc1__weight=torch.zeros(4, 6, device="meta"))),
        "fc1.weight has no values (device 'meta')",
    ),
    "negated": (
        lambda: saved(changed(fc1__weight=torch.zeros(4, 6, dtype=torch.complex64).conj().imag)),
        "fc1.weight is a negated tensor",
    ),
    "complex": (lambda: saved(changed(fc1__weight=torch.zeros(4, 6, dtype=torch.complex64).conj())), "conjugated"),
    "number for a weight": (lambda: saved(changed(fc1__weight=3.0)), "fc1.weight is of type float, not a tensor"),
    "integers": (
        lambda: saved(changed(fc1__weight=torch.ones(4, 6).int())),
        "fc1.weight is torch.int32, not torch.float32: save dense",
    ),
    "eight bits": (
        lambda: saved(changed(fc1__weight=torch.ones(4, 6).to(torch.float8_e4m3fn))),
        "is torch.float8_e4m3fn",
    ),
    "40 GB": (
        lambda: saved(changed(fc1__weight=torch.zeros(1).expand(10**5, 10**5))),
        "is [100000, 100000], not [4, 6]",
    ),
    "hidden methods": (hiding, "fc1.weight holds NaN"),
    "NaN": (with_nan, "fc2.bias holds NaN or infinite weights"),
    "infinite": (
        lambda: saved(changed(fc1__bias=torch.full((4,), torch.inf))),
        "fc1.bias holds NaN or infinite weights",
    ),
    "too large for float32": (
        lambda: saved(changed(fc1__bias=torch.full((4,), 1e300, dtype=torch.float64))),
        "fc1.bias holds NaN or inf",
    ),
    # Sound tensors that do not fit.
    "missing": (
        lambda: saved(without("fc2")),
        "does not fit small: missing fc2.weight, fc2.bias: another architecture",
    ),
    "unexpected": (lambda: saved(trained() | {"fc3.bias": torch.zeros(9)}), "unexpected fc3.bias", ANOTHER),
    "an entry that is no tensor": (
        lambda: saved(trained() | {"epoch": 3}),
        "unexpected epoch; epoch is of type int",
        "dense",
    ),
    "wider": (
        lambda: saved(changed(fc2__weight=torch.zeros(9, 4), fc2__bias=torch.zeros(9))),
        "fc2.weight is [9, 4], not [3, 4], fc2.bias is [9], not [3]: another size",
        "--labels",
    ),
    "renamed": (
        lambda: saved(
            {name.replace("fc1", "layer1").replace("fc2", "out"): tensor for name, tensor in trained().items()}
        ),
        "missing fc1.weight, fc1.bias, fc2.weight and 1 more; unexpected layer1.weight, layer1.bias, out.weight and 1",
        "only names differ (layer1.weight for fc1.weight",
    ),
    "partly renamed": (
        lambda: saved({name.replace("fc1", "layer1"): tensor for name, tensor in without("fc2").items()}),
        "some may have other names (layer1.weight for fc1.weight, layer1.bias for fc1.bias), but not all",
    ),
    "another network": (
        lambda: saved(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(9, 9)).state_dict()),
        "and 5 more; unexpected 0.weight, 0.bias, 1.weight and 1 more",
        ANOTHER,
    ),
    "in a checkpoint": (
        lambda: saved({"epoch": 1, "net": prefixed("module.", without("fc2"))}),
        "missing fc2.weight, fc2.bias:",
    ),
    "long name": (lambda: saved(trained() | {"x" * 10_000: torch.zeros(1)}), "x" * 40 + "…:"),
    "lines in a name": (lambda: saved(trained() | {"a\nb\x1b": torch.zeros(1)}), "unexpected 'a\\nb\\x1b'"),
    "many dimensions": (lambda: saved(changed(fc1__bias=torch.zeros([1] * 60))), "1, 1, …, not [4]:"),
    "many prefixes": (lambda: saved(prefixed("module." * 1000)), "does not fit small", "only names differ"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line(path, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    content, *words = BAD[name]
    path.write_bytes(content() if callable(content) else content)
    with pytest.raises(ModelFormatError) as raised:
        read_weights(path, small(), "small")
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < len(str(path)) + 600
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not (tmp_path / "ran").exists()


def test_a_malicious_pickle_would_run_elsewhere(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.save(Touch(), path)
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()


def test_paths_that_are_no_files(path, tmp_path):
    with pytest.raises(ModelNotFoundError, match="no such file: give the file that"):
        read_weights(path, small(), "small")
    with pytest.raises(ModelNotFoundError, match="not a regular file"):
        read_weights(tmp_path, small(), "small")
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(ModelNotFoundError, match="not a regular file"):
            read_weights(path, small(), "small")


def test_a_file_beyond_the_limit_is_not_read(path):
    torch.save(trained(), path)
    with pytest.raises(ModelFormatError, match="larger than the limit of 1,000 bytes"):
        weight_files.read(path, most=1000)


def test_one_dictionary_under_many_keys_is_looked_at_once(path):
    large = {str(number): 0 for number in range(20_000)}
    path.write_bytes(saved({f"key {number}": large for number in range(20_000)}))
    started = time.monotonic()
    with pytest.raises(ModelFormatError, match="no dictionary of tensors"):
        read_weights(path, small(), "small")
    assert time.monotonic() - started < 20  # 400 million looks would take minutes


def test_memory_errors_are_left_alone(path, monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError

    torch.save(trained(), path)
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        read_weights(path, small(), "small")
