"""Models that are refused before they can answer wrongly, and the golden vectors."""

import contextlib
import json
import random

import numpy as np
import pytest
from msgspec import structs

from mnist_edge import Classifier
from mnist_edge.bundle import checksum, reading, records
from mnist_edge.bundle.decoding import decode, decode_version, encode
from mnist_edge.contract import CONTRACT_KEY, GOLDEN_KEY, Contract
from mnist_edge.errors import AlteredModelError, ModelError, ModelFormatError, ModelNotFoundError, ParityError
from mnist_edge.runtime import golden, selftest
from mnist_edge.runtime.describe import describe
from mnist_edge.runtime.model import load, open_model


@pytest.fixture(scope="module")
def content(bundle_dir):
    return (bundle_dir / "model.onnx").read_bytes()


def reseal(content: bytes, old: bytes, new: bytes) -> bytes:
    """Replace bytes and renew the file's checksum. The length must not change, because protobuf records it."""
    assert len(old) == len(new)
    assert content.count(old) >= 1
    start = content.index(checksum._ENTRY) + len(checksum._ENTRY)
    unsealed = content[:start] + checksum.UNSET_CHECKSUM.encode() + content[start + 64 :]
    return checksum.with_checksum(unsealed.replace(old, new))


def flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ (1 << bit)]) + content[position + 1 :]


@pytest.fixture(scope="module")
def alterations(content):
    """One bit flipped in 500 random places and in every byte of the checksum entry, and 100 truncations."""
    chance = random.Random(20260101)
    seal = content.index(checksum._ENTRY)
    places = [*range(seal, seal + len(checksum._ENTRY) + 64), *chance.sample(range(len(content)), 500)]
    return [
        *(flipped(content, place, chance.randrange(8)) for place in places),
        *(content[:length] for length in (0, 1, len(content) - 1, *chance.sample(range(len(content)), 97))),
    ]


def test_every_flipped_byte_and_every_truncation_of_a_lone_file_is_refused(content, alterations):
    load(content, "model.onnx")
    for altered in alterations:
        with pytest.raises((AlteredModelError, ModelFormatError)):
            load(altered, "model.onnx")


def test_every_flipped_byte_and_every_truncation_in_a_bundle_is_refused(bundle_copy, alterations):
    Classifier(bundle_copy, format="onnx")
    for altered in alterations:
        (bundle_copy / "model.onnx").write_bytes(altered)
        with pytest.raises(AlteredModelError, match="the manifest says"):
            Classifier(bundle_copy, format="onnx")


def test_without_the_digests_altered_files_would_answer(content, alterations, monkeypatch):
    monkeypatch.setattr(checksum, "check_checksum", lambda model, name: None)
    unnoticed = 0
    for altered in alterations[-200:-100]:
        with contextlib.suppress(ModelError, UnicodeDecodeError):
            load(altered, "model.onnx").session.run(None, {"image": np.zeros((1, 1, 28, 28), np.uint8)})
            unnoticed += 1
    assert unnoticed > 10


def test_other_peoples_files_are_refused(tmp_path, bundle_dir):
    with pytest.raises(ModelFormatError, match="not a model that mnist-edge exported"):
        load(b"\x08\x0a something else", "theirs.onnx")
    with pytest.raises(ModelFormatError, match=r"the runtime reads \.onnx"):
        Classifier(bundle_dir / "model.pth")


def test_an_altered_file_in_a_bundle_is_refused(bundle_copy):
    path = bundle_copy / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(AlteredModelError, match="altered since its export"):
        Classifier(bundle_copy, format="onnx")
    assert describe(bundle_copy).files["model.onnx"].state == "altered"


def test_files_swapped_between_names_are_refused(bundle_copy):
    (bundle_copy / "model.int8-dynamic.onnx").replace(bundle_copy / "model.onnx")
    with pytest.raises(AlteredModelError, match="manifest"):
        Classifier(bundle_copy, format="onnx")
    assert describe(bundle_copy).files["model.int8-dynamic.onnx"].state == "missing"


def edit(change):
    """Turn a change of the manifest into a function from text to text."""

    def apply(text):
        manifest = json.loads(text)
        change(manifest)
        return json.dumps(manifest)

    return apply


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "no such file"),
        ("", "not JSON"),
        ("[]", "malformed (Expected `object`, got `array`)"),
        ("{}", "made by mnist-edge 0.1.0"),
        ('{"version": 2}', "made by mnist-edge 0.1.0: export again"),
        ('{"version": 99}', "version 99, but this mnist-edge reads 3: upgrade it"),
        (f'{{"version": {records.MANIFEST_VERSION}}}', "missing required field `contract`"),
        (edit(lambda m: m.update(files=[])), "$.files"),
        (edit(lambda m: m["files"]["model.onnx"].update(sha256=3)), "sha256"),
        (edit(lambda m: m["files"]["model.onnx"].update(parity=None)), "parity"),
        (edit(lambda m: m["files"]["model.onnx"]["parity"].update(flips="none")), "flips"),
        (edit(lambda m: m.update(contract={})), "missing required field `labels` - at `$.contract`"),
        (edit(lambda m: m["contract"].pop("labels")), "missing required field `labels` - at `$.contract`"),
        (edit(lambda m: m["contract"].update(preprocessing="round")), "Invalid enum value 'round'"),
        (edit(lambda m: m["contract"].update(calibration=3)), "$.contract.calibration"),
        (edit(lambda m: m["files"]["model.onnx"].pop("calibration")), "without format, parity or calibration"),
        (edit(lambda m: m["contract"].update(labels=["a"])), "two or more different names"),
        (edit(lambda m: m["contract"].update(labels=["a", "\x1b[31mb"])), "hold characters that cannot be printed"),
        (edit(lambda m: m["contract"]["normalization"].update(std=0)), ">= 1e-12 - at `$.contract.normalization.std`"),
        (edit(lambda m: m["provenance"].pop("seed")), "recipe, epochs and seed go together"),
    ],
)
def test_a_bad_manifest_is_refused(bundle_copy, change, words):
    path = bundle_copy / "manifest.json"
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()) if callable(change) else change)
    with pytest.raises(ModelError) as caught:
        Classifier(bundle_copy)
    assert words in str(caught.value)
    assert "again" in str(caught.value)


def test_manifest_and_file_must_agree_on_the_labels(bundle_copy):
    path = bundle_copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["contract"]["labels"][:2] = ["1", "0"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelFormatError, match="different contracts"):
        Classifier(bundle_copy)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"version":2', b'"version":3', "version 3, but this mnist-edge reads 2: upgrade it"),
        (b'"version":2', b'"version":1', "made by mnist-edge 0.1.0: export it again"),
        (b'"preprocessing":"mnist"', b'"preprocessing":"minst"', "malformed (Invalid enum value 'minst'"),
        (b'"labels":', b'"lebals":', "malformed (Object contains unknown field `lebals`"),
        (CONTRACT_KEY.encode(), b"mnist_edge.contrakt", "incomplete"),
        (GOLDEN_KEY.encode(), b"mnist_edge.goldem", "incomplete"),
        (b"\x0a\x06logits", b"\x0a\x06logitz", "returns 'logitz' [N, 10]"),
    ],
)
def test_a_file_that_breaks_its_contract_is_refused(content, old, new, words):
    with pytest.raises(ModelFormatError) as caught:
        load(reseal(content, old, new), "model.onnx")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"count":12', b'"count":11', "or more instead of"),
        (b'"count":12', b'"count": 0', "Expected `int` >= 1"),
        (b'"count":12', b'"count":[]', "Expected `int`, got `array`"),
        (b'"count":12,"images":"', b'"count":1e999,"ima":"', "Number out of range"),
        (b'"tolerance":0.0001}', b'"tolerance": 1e999}', "Number out of range"),
    ],
)
def test_malformed_golden_vectors_are_found_by_the_self_test(content, old, new, words):
    model = load(reseal(content, old, new), "model.onnx")
    with pytest.raises(ModelFormatError, match="golden vectors") as caught:
        selftest.run(model)
    assert words in str(caught.value)


def test_only_the_self_test_unpacks_golden_vectors(bundle_dir, monkeypatch):
    unpacked = []
    monkeypatch.setattr(golden, "unpack", lambda *arguments: unpacked.append(arguments))
    Classifier(bundle_dir).logits(np.zeros((1, 28, 28), np.uint8))
    assert not unpacked
    assert open_model(bundle_dir).contents.golden is None
    assert len(unpacked) == 1


def test_each_file_is_hashed_once(bundle_dir, monkeypatch):
    hashed = []
    real = checksum.sha256
    for module in (checksum, reading):
        monkeypatch.setattr(module, "sha256", lambda data: hashed.append(len(data)) or real(data))
    for source in (bundle_dir, bundle_dir / "model.onnx"):
        hashed.clear()
        Classifier(source)
        assert len(hashed) == 1


def test_selftest_passes_and_reports(bundle_dir):
    for file in ("model.onnx", "model.int8-dynamic.onnx", "model.int8-static.onnx"):
        result = selftest.run(open_model(bundle_dir / file))
        assert result.vectors == 12
        assert 0 <= result.max_abs_diff <= result.tolerance


def test_golden_vectors_are_pytorchs_answers(bundle_dir, expected):
    vectors = open_model(bundle_dir / "model.onnx").contents.golden
    known = {image.tobytes(): row for image, row in zip(expected["images"], expected["logits"], strict=True)}
    found = [
        (row, known[image.tobytes()])
        for image, row in zip(vectors.images, vectors.logits, strict=True)
        if image.tobytes() in known
    ]
    assert len(found) >= 10
    for stored, row in found:
        np.testing.assert_allclose(stored, row, atol=1e-4)


def test_selftest_notices_a_machine_that_computes_otherwise(bundle_dir):
    model = open_model(bundle_dir / "model.onnx")
    known = model.contents.golden
    for wrong in (known.logits + np.float32(1e-3), np.full_like(known.logits, np.nan)):
        vectors = golden.pack(structs.replace(known, logits=wrong))
        broken = structs.replace(model, contents=structs.replace(model.contents, golden_json=vectors.decode()))
        with pytest.raises(ParityError, match="do not use it here"):
            selftest.run(broken)


def test_contract_round_trip(bundle_dir):
    contract = open_model(bundle_dir / "model.onnx").contract
    assert decode(encode(contract), Contract, "it", "no matter") == contract
    assert contract.labels == tuple("0123456789")


@pytest.mark.parametrize(
    "text",
    [
        *("null", "3", "[]", "{}", '{"version": 2}', '{"version": 2, "labels": 3, "normalization": {}}'),
        *("", "{", "NaN", '{"version": NaN}', '{"version": 1e999}', '{"version": ' + "9" * 400 + "}"),
        *("[" * 100_000, '{"version": 2, "x": ' + "[" * 100_000, "\ud800"),
    ],
    ids=lambda text: text[:40].encode("ascii", "backslashreplace").decode(),
)
def test_what_is_no_contract(text):
    with pytest.raises(ModelFormatError, match=r"^it: "):
        decode_version(text, Contract, 2, "it", "no matter")


def test_no_more_json_is_read_than_a_record_can_have():
    with pytest.raises(ModelFormatError, match="bytes of JSON"):
        decode(b" " * (2**24 + 1), Contract, "it", "no matter")


def test_describe_tells_the_same_of_a_file_and_of_its_bundle(bundle_dir):
    whole, single = describe(bundle_dir), describe(bundle_dir / "model.onnx")
    # Calibration is per file.
    assert whole.contract == structs.replace(single.contract, calibration=None)
    assert whole.provenance == single.provenance
    assert whole.files["model.onnx"].sha256 == single.files["model.onnx"].sha256
    assert {file.state for file in whole.files.values()} == {"intact"}


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(ModelNotFoundError, match="check the path"):
        open_model(tmp_path / "model.onnx")
