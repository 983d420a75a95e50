"""The records of a bundle, the reader of its files, and the small languages in them, without any training."""

import json
import os
import sys

import msgspec
import pytest
from msgspec import UNSET, structs

from mnist_edge.bundle import checksum, decoding, layout, legacy, reading, recipe, records, source, thresholds
from mnist_edge.bundle.layout import Engine, Format
from mnist_edge.bundle.recipe import Architecture, Recipe
from mnist_edge.bundle.records import File, Manifest, TrainingRecord
from mnist_edge.bundle.source import Ending, InputForm, Source
from mnist_edge.contract import CHECKSUM_KEY, HALF, Output
from mnist_edge.errors import AlteredModelError, ModelFormatError, ModelNotFoundError, UsageError
from tests.fuzzing import seeds


@pytest.fixture(scope="module")
def manifest():
    return json.loads((seeds.PRETRAINED / "cnn" / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def trained():
    return json.loads([*seeds.trainings()][1])


@pytest.fixture(scope="module")
def imported():
    return json.loads([*seeds.trainings()][2])


@pytest.fixture
def folder(tmp_path, manifest):
    """A bundle as a device has it; its files hold a few bytes."""
    for name, file in manifest["files"].items():
        (tmp_path / name).write_bytes(name.encode())
        file["sha256"] = checksum.sha256(name.encode())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


# JSON


def decoded(content, kind=Manifest):
    return decoding.decode(content, kind, "there", "do this")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((content, "there: not JSON") for content in (b"", b'{"a":NaN}', b'{"a":Infinity}', b"{")),
        (b'{"a":' * 100_000, "there: not JSON"),
        (b"[]", "there: malformed (Expected `object`, got `array`): do this"),
        (b"{}", "missing required field"),
        (b" " * (2**24 + 1), "there: 16,777,217 bytes of JSON, more than the limit of 16,777,216: do this"),
    ],
)
def test_json_that_is_refused(content, words):
    with pytest.raises(ModelFormatError) as caught:
        decoded(content)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("\n", r"there: malformed (Invalid value '\n' - at `$.kind`): do this"),
        ("\x1b[31m", r"there: malformed (Invalid value '\x1b[31m' - at `$.kind`): do this"),
        ("x" * 1000, f"there: malformed (Invalid value '{'x' * 85}…{'x' * 85}' - at `$.kind`): do this"),
    ],
)
def test_an_error_that_quotes_the_content_is_one_short_line(kind, words):
    with pytest.raises(ModelFormatError) as caught:
        decoded(json.dumps({"kind": kind}), records.TrainingRecord | records.ImportRecord)
    assert str(caught.value) == words


def test_the_longest_json_is_read():
    assert decoded(b" " * (2**24 - 2) + b"{}", dict) == {}


@pytest.mark.parametrize(("version", "words"), [(2, "made by mnist-edge 0.1.0: do this"), (4, "version 4, but")])
def test_records_of_other_versions(manifest, version, words):
    content = json.dumps(manifest | {"version": version})
    with pytest.raises(ModelFormatError, match=words):
        decoding.decode_version(content, Manifest, 3, "there", "do this")
    assert decoding.version_of(content, "there", "") == version


def test_a_record_without_a_version_is_an_old_one():
    assert decoding.version_of(b"{}", "there", "") == 0


def test_the_ways_to_write_a_record():
    assert decoding.encode(HALF) == b'{"mean":0.5,"std":0.5}'
    assert decoding.encode_indented(HALF) == b'{\n  "mean": 0.5,\n  "std": 0.5\n}\n'
    assert decoding.plain(structs.replace(HALF, mean=1.0)) == {"mean": 1.0, "std": 0.5}
    assert decoding.plain({"a": float("nan"), "b": float("inf")}) == {"a": None, "b": None}


# The table of formats


def test_the_files_of_a_bundle():
    assert (layout.WEIGHTS, layout.TRAINING, layout.MANIFEST) == ("model.pth", "training.json", "manifest.json")
    assert {form.value: (form.file_name, form.engine.value, form.origin) for form in Format} == {
        "torchscript": ("model.torchscript", "libtorch", None),
        "onnx": ("model.onnx", "onnxruntime", None),
        "int8-dynamic": ("model.int8-dynamic.onnx", "onnxruntime", None),
        "int8-static": ("model.int8-static.onnx", "onnxruntime", None),
        "c": ("model.h", "C compiler", "int8-static"),
    }
    assert layout.RUNNABLE == (Format.ONNX, Format.INT8_DYNAMIC, Format.INT8_STATIC)
    assert (Format.TORCHSCRIPT, *layout.RUNNABLE) == layout.BY_DEFAULT
    assert tuple(form.file_name for form in Format) == layout.EXPORTED
    assert set(layout.FILES) == {
        *("model.pth", "training.json", "metrics.jsonl", "checkpoint.pth", "manifest.json"),
        *layout.EXPORTED,
    }
    assert [*Engine] == ["onnxruntime", "libtorch", "C compiler"]


def test_formats_by_name():
    assert layout.format_named("int8-static") is Format.INT8_STATIC
    with pytest.raises(UsageError, match="did you mean int8-static"):
        layout.format_named("int8_static")
    with pytest.raises(UsageError, match="unknown format 'c': choose from onnx, int8-dynamic, int8-static"):
        layout.format_named("c", layout.RUNNABLE)


@pytest.mark.parametrize("prefix", ["", "a", "my_digits", "a1_"])
def test_c_prefixes(prefix):
    layout.require_c_prefix(prefix)


@pytest.mark.parametrize("prefix", ["A", "1a", "_a", "a-b", "a b", "aé", "a\n"])
def test_what_is_no_c_prefix(prefix):
    with pytest.raises(UsageError, match="is no name in lower case"):
        layout.require_c_prefix(prefix)


# The checksum


def test_the_checksum_notices_every_byte():
    model = b"before" + CHECKSUM_KEY.encode() + b"\x12\x40" + b"0" * 64 + b"after"
    whole = checksum.with_checksum(model)
    assert len(whole) == len(model)
    assert whole[-69:-5] == checksum.sha256(model).encode()
    checksum.check_checksum(whole, "it")
    for place in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        with pytest.raises((AlteredModelError, ModelFormatError)):
            checksum.check_checksum(bytes(spoilt), "it")
    with pytest.raises(AlteredModelError, match="it: altered since its export"):
        checksum.check_checksum(whole + b"x", "it")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"PK", "it: a PyTorch or TorchScript file"), (b"xPK", "not a model that mnist-edge exported")],
)
def test_files_without_a_checksum(content, words):
    with pytest.raises(ModelFormatError, match=words):
        checksum.check_checksum(content, "it")


def test_sha256():
    assert checksum.sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Reading


@pytest.mark.parametrize(
    ("files", "first", "second"),
    [
        ((), "make it:  mnist-edge train --model … --out {}", "make it:  mnist-edge train --model … --out {}"),
        (("checkpoint.pth",), "its training is unfinished", "its training is unfinished"),
        (("model.pth",), "train again:  mnist-edge train --overwrite", "train again"),
        (("model.onnx",), "train again", "train again"),
        (("training.json",), "train again", "export it:  mnist-edge export {}"),
        (("training.json", "checkpoint.pth"), "train again", "export it:  mnist-edge export {}"),
        (("training.json", "model.h"), "train again", "its export is unfinished"),
        (("manifest.json",), "make it", "export again:  mnist-edge export {}"),
    ],
)
def test_what_to_do_about_a_bundle(tmp_path, files, first, second):
    for name in files:
        (tmp_path / name).touch()
    assert reading.retrain(tmp_path).startswith(first.format(tmp_path))
    assert reading.reexport(tmp_path).startswith(second.format(tmp_path))


@pytest.mark.parametrize("name", ["manifest.json", "training.json", "checkpoint.pth", "model.pth"])
def test_what_makes_a_bundle(tmp_path, name):
    assert not reading.is_bundle(tmp_path)
    (tmp_path / name).touch()
    assert reading.is_bundle(tmp_path)


def test_what_is_there_instead_of_a_bundle(tmp_path):
    assert str(reading.not_a_bundle(tmp_path / "x", " or y")).endswith(
        "x: a file, not a bundle: give a folder that mnist-edge train wrote or y"
    )
    assert "not a bundle (no manifest.json or training.json): give a folder" in str(reading.not_a_bundle(tmp_path))
    for number in range(5):
        (tmp_path / f"{number}.onnx").touch()
    (tmp_path / "empty").mkdir()
    names = [str(tmp_path / f"{number}.onnx") for number in range(5)]
    assert str(reading.not_a_bundle(tmp_path)).endswith(f"not a bundle, but holds: {', '.join(names)}")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model.pth").touch()
    assert reading.models_in(tmp_path) == [*names, str(tmp_path / "bundle")]
    assert str(reading.not_a_bundle(tmp_path)).endswith(f"{names[4]}, …")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert reading.read_file(tmp_path / "file", "") == b"abc"
    with pytest.raises(ModelNotFoundError, match="none: no such file: do this"):
        reading.read_file(tmp_path / "none", "do this")
    with pytest.raises(ModelNotFoundError, match=r"cannot be read \(.+\): do this"):
        reading.read_file(tmp_path, "do this")


@pytest.mark.skipif(sys.platform == "win32", reason="has no FIFOs")
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0  # noqa: PTH112, PTH208  # as the code
    with pytest.raises(ModelNotFoundError, match=r"cannot be read \(not a regular file\)"):
        reading.read_file(tmp_path / "pipe", "")
    after = len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0  # noqa: PTH112, PTH208  # as the code
    assert after == before


def test_a_file_and_its_digest(folder):
    manifest = reading.read_manifest(folder)
    assert manifest.exported == ("model.onnx", "model.int8-static.onnx")
    assert reading.read_verified(folder, "model.onnx", manifest) == b"model.onnx"
    with pytest.raises(ModelNotFoundError, match=r"manifest.json: lists no model.h: export again"):
        reading.read_verified(folder, "model.h", manifest)
    (folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(AlteredModelError, match=r"altered since its export .*: export again"):
        reading.read_verified(folder, "model.onnx", manifest)
    with pytest.raises(AlteredModelError):
        reading.read_chosen(folder, lambda manifest: "model.onnx")


def test_a_bundle_that_is_exported_anew_while_it_is_read(folder):
    text = (folder / "manifest.json").read_text()

    def choose(manifest):
        # The first time another export begins after the choice.
        if manifest.contract.labels[0] == "0":
            new = json.loads(text)
            new["contract"]["labels"][0] = "zero"
            new["files"]["model.int8-static.onnx"]["sha256"] = checksum.sha256(b"new")
            (folder / "manifest.json").write_text(json.dumps(new))
            (folder / "model.int8-static.onnx").write_bytes(b"new")
            (folder / "model.onnx").write_bytes(b"half written")
            return "model.onnx"
        return "model.int8-static.onnx"

    manifest, name, content = reading.read_chosen(folder, choose)
    assert (manifest.contract.labels[0], name, content) == ("zero", "model.int8-static.onnx", b"new")


def test_the_halves_of_a_bundle(folder):
    manifest = reading.read_manifest(folder)
    with pytest.raises(ModelNotFoundError, match="has no PyTorch model to compare with"):
        reading.require_first_half(folder, manifest)
    reading.require_first_half(folder, structs.replace(manifest, files={"model.pth": File("0" * 64, 1)}))
    with pytest.raises(ModelNotFoundError, match="holds no interrupted training"):
        reading.require_paused(folder)
    (folder / "checkpoint.pth").touch()
    reading.require_paused(folder)


def test_training_records(tmp_path, trained, imported):
    path = tmp_path / "training.json"
    path.write_text(json.dumps(trained))
    found = reading.read_training(tmp_path)
    assert isinstance(found, TrainingRecord)
    assert found.calibration_split == found.recipe.calibration_split == 12
    assert found.test == found.epochs[0].test
    assert found.form is InputForm.IMAGE
    assert (found.contract.labels, found.contract.output) == (tuple("0123456789"), Output.LOGITS)
    assert found.contract.normalization == found.recipe.normalization
    later = {**trained["epochs"][0], "test": {"loss": 0.5, "correct": 1, "total": 2, "accuracy": 0.5}}
    path.write_text(json.dumps(trained | {"epochs": [*trained["epochs"], later]}))
    assert reading.read_training(tmp_path).test.accuracy == 0.5
    path.write_text(json.dumps(imported))
    found = reading.read_training(tmp_path)
    assert (found.calibration_split, found.finished, found.form) == (0, True, InputForm.FLAT)
    assert (found.contract.inverted, found.contract.transposed) == (False, True)
    assert (found.contract.normalization, found.contract.output) == (found.normalization, Output.LOG_SOFTMAX)
    path.write_text(json.dumps(imported | {"version": 4}))
    with pytest.raises(ModelFormatError, match="version 4, but this mnist-edge reads 3"):
        reading.read_training(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": []}, "length >= 1"),
        ({"kind": "made"}, "Invalid value 'made'"),
        ({"parameters": -1}, "$.parameters"),
        ({"seed": 1.5}, "$.seed"),
        ({"architecture": "cnnn"}, "'cnnn' is not a valid Architecture"),
    ],
)
def test_training_records_that_cannot_be(tmp_path, trained, change, words):
    (tmp_path / "training.json").write_text(json.dumps(trained | change))
    with pytest.raises(ModelFormatError) as caught:
        reading.read_training(tmp_path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'training.json'}: malformed")
    assert str(caught.value).endswith(f"train again:  mnist-edge train --overwrite --model … --out {tmp_path}")


def test_a_training_of_0_1_0(tmp_path):
    old = json.loads((seeds.TESTS / "made_by_0_1_0" / "training.json").read_bytes())
    found = legacy.training_record(json.dumps(old).encode(), "there", "do this")
    assert (found.recipe.ema_decay, found.recipe.calibration_split) == (0.99, 12)
    assert (found.version, found.preprocessing) == (legacy.TRAINING_VERSION, "mnist") == (2, "mnist")
    for name in ("framing", "recipe"):
        with pytest.raises(ModelFormatError, match=f"there: malformed .'{name}' is missing.: do this"):
            legacy.training_record(
                json.dumps({key: old[key] for key in old if key != name}).encode(), "there", "do this"
            )
    of_old = legacy.contract(found.contract)
    assert of_old["input"] == {"name": "image", "dtype": "uint8", "shape": ["N", 1, 28, 28]}
    assert of_old["output"] == {"name": "logits", "dtype": "float32", "shape": ["N", 10]}
    assert (of_old["version"], of_old["framing"], of_old["calibration"]) == (1, "mnist", None)


# Records


EVERY = [
    kind
    for module in (records, recipe, source)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", EVERY)
def test_records_cannot_be_changed(kind):
    assert kind.__struct_config__.frozen


@pytest.mark.parametrize("kind", [Recipe, Source])
def test_records_that_take_no_other_fields(kind):
    assert kind.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize(
    "kind", [records.TrainingRecord, records.ImportRecord, records.Imported, records.Provenance, records.Manifest]
)
def test_records_whose_fields_are_named(kind):
    with pytest.raises(TypeError, match="positional"):
        kind("a", "b")


def test_versions_and_defaults():
    assert (records.TRAINING_VERSION, records.MANIFEST_VERSION) == (3, 3)
    defaults = {field.name: field.default for field in structs.fields(Recipe) if not field.required}
    assert defaults == {
        "epochs": 5,
        "batch_size": 64,
        "schedule": "constant",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "augment": False,
        "drawn_digits": 0.0,
        "outliers": 0.0,
        "ema_decay": 0.0,
        "calibration_split": 0,
        "autocast": False,
    }
    assert [*recipe.OptimizerName] == ["sgd", "adam", "adamw"]
    assert [*recipe.Schedule] == ["constant", "one-cycle"]


def test_architectures_by_name():
    assert [*Architecture] == ["cnn-nano", "cnn", "cnn-large", "simple-nn", "sigmoid-nn"]
    assert Architecture.SIMPLE_NN.layers == "784-512-256-10, ReLU"
    assert recipe.architecture_named("cnn-nano") is Architecture.CNN_NANO
    with pytest.raises(UsageError, match="unknown architecture 'cnn-nanno': did you mean cnn-nano"):
        recipe.architecture_named("cnn-nanno")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["files"].update({"../model.onnx": m["files"]["model.onnx"]}), "names '../model.onnx'"),
        (lambda m: m["measured"].update({"model.txt": m["measured"]["model.onnx"]}), "names 'model.txt'"),
        (lambda m: m["recommended"].update(file="x"), "names 'x', which is not a bundle file"),
        (lambda m: m["recommended"]["not"].update(y="why"), "names 'y', which is not a bundle file"),
        *(
            (lambda m, key=key: m["files"]["model.onnx"].pop(key), "lists model.onnx without format, parity or")
            for key in ("format", "parity", "calibration")
        ),
        (lambda m: m["provenance"].pop("seed"), "recipe, epochs and seed go together"),
        (lambda m: m["provenance"].pop("epochs"), "recipe, epochs and seed go together"),
        (lambda m: m["pytorch"].update(accuracy=1.1), "$.pytorch.accuracy"),
        (lambda m: m["files"]["model.onnx"].update(bytes=-1), "bytes"),
    ],
)
def test_manifests_that_cannot_be(manifest, change, words):
    changed = json.loads(json.dumps(manifest))
    change(changed)
    with pytest.raises(ModelFormatError) as caught:
        decoded(json.dumps(changed))
    assert words in str(caught.value)


def test_manifests_with_less(manifest):
    changed = json.loads(json.dumps(manifest))
    for name in ("recommended", "measured", "version"):
        del changed[name]
    for name in ("recipe", "epochs", "seed"):
        del changed["provenance"][name]
    changed["files"]["model.pth"] = {"sha256": "0" * 64, "bytes": 0}
    changed["files"]["training.json"] = {"sha256": "0" * 64, "bytes": 0}
    found = decoded(json.dumps(changed))
    assert (found.recommended, found.measured, found.version) == (UNSET, {}, 3)
    assert found.exported == ("model.onnx", "model.int8-static.onnx")


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((0.0005, 0.998, 1e-4), []),
        ((-1.0, 1.0, None), []),
        ((0.0006, 0.998, None), ["accuracy drop of 0.06 points"]),
        ((0.0, 0.997, 0.0), ["answers 0.30 % of the images differently"]),
        ((0.0, 1.0, 0.00011), ["an image's logits move by 0.00011 with the rest of its batch"]),
    ],
)
def test_thresholds(figures, words):
    assert thresholds.differences(*figures) == words


# Sources


@pytest.mark.parametrize(
    ("items", "wanted"),
    [
        ([], {}),
        (["width=32", "depth=-1"], {"width": 32, "depth": -1}),
        (["p=0.5", "q=1e3", "r=1_000"], {"p": 0.5, "q": 1000.0, "r": 1000}),
        (["bias=True", "skip=false"], {"bias": True, "skip": False}),
        (["name=a=b", "empty="], {"name": "a=b", "empty": ""}),
        (["x=inf", "y=nan", "z=1e999"], {"x": "inf", "y": "nan", "z": "1e999"}),
        (["n=9223372036854775807", "m=-9223372036854775807"], {"n": 2**63 - 1, "m": 1 - 2**63}),
    ],
)
def test_arguments(items, wanted):
    found = source.parse_arguments(items)
    assert found == wanted
    assert [*map(type, found.values())] == [*map(type, wanted.values())]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["width"], "write  name=value"),
        (["=1"], "write  name=value"),
        (["1a=1"], "write  name=value"),
        (["class=1"], "write  name=value"),
        (["a=1", "a=2"], "a is given twice"),
        (["a=9223372036854775808"], "larger than 9223372036854775807"),
        (["a=-9223372036854775808"], "larger than 9223372036854775807"),
    ],
)
def test_arguments_that_are_none(items, words):
    with pytest.raises(UsageError) as caught:
        source.parse_arguments(items)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("net.py:Net", ("net.py", "Net")),
        ("a/b:Net", ("a/b", "Net")),
        (r"C:\net.py:Net", (r"C:\net.py", "Net")),
        ("nets.small:Net", ("nets.small", "Net")),
    ],
)
def test_places(place, wanted):
    assert source.split_place(place) == wanted
    assert source.is_source(place)
    assert source.is_file(wanted[0]) == (wanted[0] != "nets.small")
    assert Source(place, {}, "").name == "Net"


@pytest.mark.parametrize("place", ["Net", ":Net", "net.py:", "net.py:class", "net.py:1", "a b:Net", "a..b:Net"])
def test_what_is_no_place(place):
    with pytest.raises(UsageError, match=r"name a file and its class|neither a .py file nor a module"):
        source.split_place(place)


@pytest.mark.parametrize("text", ["cnn", "a/b.py", r"C:\net.py", "a:b/c"])
def test_names_that_are_no_source(text):
    assert not source.is_source(text)


def test_names_and_forms():
    own = Source("net.py:LeNet5", {}, "0" * 64, InputForm.FLAT)
    assert (source.name_of(own), source.name_of(Architecture.CNN)) == ("LeNet5", "cnn")
    assert [source.form_of(each) for each in (own, Architecture.CNN, UNSET)] == ["flat", "image", "image"]
    assert Source("net.py:Net", {}, "").input is InputForm.IMAGE
    assert [source.folder_name(name) for name in ("LeNet5", "MLPMixer", "my_net")] == ["le-net5", "mlp-mixer", "my-net"]
    outputs = {ending.value: ending.output for ending in Ending}
    assert outputs == {
        "logits": Output.LOGITS,
        "log-softmax": Output.LOG_SOFTMAX,
        "softmax": Output.LOGITS,
        "probabilities": Output.LOG_SOFTMAX,
    }
