"""Every supported form of data, and every malformed one that must be refused."""

import dataclasses
import gzip
import hashlib
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from mnist_edge.contract import STANDARDIZED, Preprocessing
from mnist_edge.data import datasets, idx
from mnist_edge.data.datasets import Dataset, Split
from mnist_edge.errors import DataError, DataFormatError, DataNotFoundError
from tests.helpers import write_idx

DESIGNED_DIGESTS = {  # of the decompressed files, from the project's design
    "train-images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "test-labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def test_the_tracked_mnist_is_the_canonical_one(mnist):
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)
    assert mnist.labels == tuple("0123456789")
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    file = datasets.CHECKOUT_DATASETS / "mnist" / "train-images-idx3-ubyte.gz"
    assert hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest() == DESIGNED_DIGESTS["train-images"]
    assert DESIGNED_DIGESTS.items() <= mnist.digests.items()


def test_the_normalization_is_mnists(mnist):
    pixels = mnist.train.images / 255
    assert pixels.mean() == pytest.approx(STANDARDIZED.mean, abs=5e-5)
    assert pixels.std() == pytest.approx(STANDARDIZED.std, abs=5e-5)


THREE = ("circle", "cross", "line")


@pytest.fixture
def three(mnist) -> Dataset:
    """MNIST's zeros, ones and twos under other names."""

    def pick(split: Split, count: int) -> Split:
        chosen = np.flatnonzero(split.labels < 3)[:count]
        return Split(split.images[chosen], split.labels[chosen])

    return Dataset("three", "three", THREE, pick(mnist.train, 60), pick(mnist.test, 30))


def write_images(folder, split: Split, names=THREE) -> None:
    for index, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        path = folder / names[label] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def write_csv(path, split: Split, first: int = 0) -> None:
    lines = ["label," + ",".join(f"pixel{k}" for k in range(first, first + 784))]
    lines += [
        f"{label}," + ",".join(map(str, image.ravel())) for image, label in zip(split.images, split.labels, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def by_label(split: Split):
    """The images of each class, sorted so that their order does not matter."""
    return {
        int(label): sorted(image.tobytes() for image in split.images[split.labels == label])
        for label in set(split.labels)
    }


@pytest.mark.parametrize("compress", [False, True])
def test_idx_folder(three, tmp_path, compress):
    data = datasets.load(write_idx(tmp_path / "data", three, compress=compress))
    assert data.labels == ("0", "1", "2")
    assert data.source == str(tmp_path / "data")
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(data, split).images, getattr(three, split).images)
        np.testing.assert_array_equal(getattr(data, split).labels, getattr(three, split).labels)


def test_idx_folder_with_names(three, tmp_path):
    (write_idx(tmp_path, three) / "labels.txt").write_text("\n".join(THREE) + "\n")
    assert datasets.load(tmp_path).labels == THREE


def test_idx_folder_with_gaps_between_the_digits(three, tmp_path):
    shift = np.array([3, 5, 8], np.uint8)
    gapped = {
        split: Split(getattr(three, split).images, shift[getattr(three, split).labels]) for split in ("train", "test")
    }
    data = datasets.load(write_idx(tmp_path, Dataset("", "", (), **gapped)))
    assert data.labels == ("3", "5", "8")
    np.testing.assert_array_equal(data.test.labels, three.test.labels)


def test_image_folder(three, tmp_path):
    write_images(tmp_path / "train", three.train)
    write_images(tmp_path / "test", three.test)
    (tmp_path / "train" / "circle" / "notes.txt").write_text("not an image")
    data = datasets.load(tmp_path)
    assert data.labels == THREE
    assert by_label(data.train) == by_label(three.train)
    assert by_label(data.test) == by_label(three.test)


def test_small_pictures_are_taken_as_they_are_unless_larger_ones_are_among_them(three, tmp_path):
    inverted = dataclasses.replace(three, train=Split(255 - three.train.images, three.train.labels))
    write_images(tmp_path / "data", inverted.train)
    alone = datasets.load(tmp_path / "data")
    assert alone.preprocessing is Preprocessing.WHOLE
    assert alone.train.images[:, 0, 0].min() == 255
    large = Image.fromarray(inverted.train.images[0]).resize((280, 280), Image.Resampling.BICUBIC)
    large.save(tmp_path / "data" / THREE[inverted.train.labels[0]] / "large.png")
    mixed = datasets.load(tmp_path / "data")
    assert mixed.preprocessing is Preprocessing.MNIST
    assert mixed.train.images[:, 0, 0].max() == 0


def test_the_framing_is_found_by_looking(mnist, three):
    assert mnist.preprocessing is Preprocessing.MNIST
    enlarged = np.stack(
        [np.asarray(Image.fromarray(image[4:-4, 4:-4]).resize((28, 28))) for image in three.train.images]
    )
    assert dataclasses.replace(three, train=Split(enlarged, three.train.labels)).preprocessing is Preprocessing.WHOLE


def test_image_folder_without_a_test_part_holds_out_a_seventh_of_each_class(three, tmp_path):
    write_images(tmp_path, three.train)
    data = datasets.load(tmp_path)
    assert len(data.train) + len(data.test) == len(three.train)
    for label in range(3):
        count = (three.train.labels == label).sum()
        assert (data.test.labels == label).sum() == pytest.approx(count / 7, abs=1.5)
    assert datasets.load(tmp_path).digests == data.digests


@pytest.mark.parametrize("count", range(2, 40))
def test_of_each_class_some_are_for_the_training_and_some_for_the_test(three, tmp_path, count):
    chosen = np.concatenate([np.flatnonzero(three.train.labels == label)[:count] for label in range(3)])
    labels = three.train.labels[chosen]
    write_csv(tmp_path / "train.csv", Split(three.train.images[chosen], labels))
    data = datasets.load(tmp_path / "train.csv")
    calibration_split = np.bincount(data.test.labels, minlength=3)
    assert (calibration_split >= 1).all()
    assert calibration_split == pytest.approx(np.bincount(labels) / 7, abs=1.5)
    assert len(data.train) + len(data.test) == len(labels)


def test_a_class_may_have_no_folder_among_the_test_images(three, tmp_path):
    write_images(tmp_path / "train", three.train)
    write_images(tmp_path / "test", three.test)
    shutil.rmtree(tmp_path / "test" / THREE[1])
    data = datasets.load(tmp_path)
    assert data.labels == THREE
    assert set(data.test.labels) == {0, 2}


def test_labels_that_are_numbers_are_in_their_order(three, tmp_path):
    write_images(tmp_path, three.train, names=("10", "9", "100"))
    assert datasets.load(tmp_path).labels == ("9", "10", "100")


def test_larger_pictures_in_a_folder_are_framed_as_the_runtime_frames_them(three, tmp_path):
    from mnist_edge import images

    for label in range(2):
        for index in range(2):
            path = tmp_path / str(label) / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.pad(three.train.images[2 * label + index], 40)).save(path)
    data = datasets.load(tmp_path)
    np.testing.assert_array_equal(data.test.images[0], images.preprocess(images.decode(tmp_path / "0" / "1.png")))


@pytest.mark.parametrize("first", [0, 1])
def test_kaggle_csv(three, tmp_path, first):
    write_csv(tmp_path / "digits.csv", three.train, first)
    data = datasets.load(tmp_path / "digits.csv")
    assert data.labels == ("0", "1", "2")
    together = Split(
        np.concatenate([data.train.images, data.test.images]), np.concatenate([data.train.labels, data.test.labels])
    )
    assert by_label(together) == by_label(three.train)


def test_kaggle_folder(three, tmp_path):
    write_csv(tmp_path / "train.csv", three.train)
    write_csv(tmp_path / "test.csv", three.test)
    data = datasets.load(tmp_path)
    np.testing.assert_array_equal(data.train.images, three.train.images)
    np.testing.assert_array_equal(data.test.labels, three.test.labels)


def test_the_same_data_in_any_form_has_the_same_digests(three, tmp_path):
    write_csv(tmp_path / "train.csv", three.train)
    write_csv(tmp_path / "test.csv", three.test)
    assert datasets.load(tmp_path).digests == datasets.load(write_idx(tmp_path / "idx", three)).digests


def test_environment_variable(three, tmp_path, monkeypatch):
    monkeypatch.setenv(datasets.ENVIRONMENT_VARIABLE, str(write_idx(tmp_path / "mine", three)))
    assert datasets.load().name == "mine"
    assert datasets.load("mnist").name == "mnist"


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def edit(name, change):
    def apply(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return apply


def header(*dimensions, magic=b"\0\0\x08"):
    return magic + bytes([len(dimensions)]) + struct.pack(f">{len(dimensions)}I", *dimensions)


def replace_labels(name, values):
    return edit(name, lambda content: idx.encode(np.array(values, np.uint8)))


def both(*changes):
    def apply(folder):
        for change in changes:
            change(folder)

    return apply


MALFORMED_IDX = {
    "no labels file": (lambda folder: (folder / LABELS).unlink(), "has no train-labels-idx1-ubyte"),
    "test labels without images": (lambda folder: (folder / TEST_IMAGES).unlink(), "has no t10k-images-idx3-ubyte"),
    "empty file": (edit(IMAGES, lambda c: b""), "starts with nothing"),
    "one byte": (edit(IMAGES, lambda c: b"\0"), "starts with 00 instead of 00000803"),
    "wrong magic": (edit(IMAGES, lambda c: b"\x89PNG" + c[4:]), "starts with 89504e47"),
    "floats": (edit(IMAGES, lambda c: b"\0\0\x0d\x03" + c[4:]), "starts with 00000d03"),
    "labels where images belong": (edit(IMAGES, lambda c: header(60) + bytes(60)), "instead of 00000803"),
    "header cut": (edit(IMAGES, lambda c: c[:9]), "truncated within its header"),
    "truncated": (edit(IMAGES, lambda c: c[:-1]), "fetch it again"),
    "trailing byte": (edit(IMAGES, lambda c: c + b"\0"), "fetch it again"),
    "labels truncated": (edit(LABELS, lambda c: c[:-3]), "fetch it again"),
    "count lies": (edit(IMAGES, lambda c: header(61, 28, 28) + c[16:]), "(61, 28, 28)"),
    "dimensions that would fill the memory": (
        edit(IMAGES, lambda c: header(0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF) + c[16:]),
        "79,228,162,458,924,105,385,300,197,391",
    ),
    "fewer labels than images": (
        replace_labels(LABELS, [0, 1, 2]),
        "3 labels for 60 images: one of the two is cut short, or",
    ),
    "more labels than images": (replace_labels(TEST_LABELS, [0, 1] * 30), "60 labels for 30 images"),
    "another size": (edit(IMAGES, lambda c: header(60, 14, 56) + c[16:]), "14×56"),
    "no images": (both(edit(IMAGES, lambda c: header(0, 28, 28)), edit(LABELS, lambda c: header(0))), "empty"),
    "test label out of range": (
        replace_labels(TEST_LABELS, [0, 11] * 15),
        "label 11 does not occur in the training set",
    ),
    "test label never trained": (replace_labels(TEST_LABELS, [7] * 30), "label 7 does not occur in the training set"),
    "one class only": (replace_labels(LABELS, [1] * 60), "two classes"),
    "name missing": (lambda folder: (folder / "labels.txt").write_text("a\nb\n"), "label 2 is not within 0…1"),
    "name empty": (lambda folder: (folder / "labels.txt").write_text("a\n\nc\n"), "neither empty nor repeated"),
    "name twice": (lambda folder: (folder / "labels.txt").write_text("a\nb\na\n"), "neither empty nor repeated"),
    "names no text": (lambda folder: (folder / "labels.txt").write_bytes(b"\xff\xfe\xff"), "UTF-8 text: write one"),
    "gzip cut": (edit(IMAGES, lambda c: gzip.compress(c)[:-9]), ""),
    "gzip damaged": (
        edit(IMAGES, lambda c: (z := bytearray(gzip.compress(c)), z.__setitem__(len(z) // 2, z[len(z) // 2] ^ 255))[0]),
        "",
    ),
    "gzip of something cut": (edit(IMAGES, lambda c: gzip.compress(c[:-1])), "fetch it again"),
    "gzip checksum": (edit(IMAGES, lambda c: gzip.compress(c)[:-8] + bytes(4) + gzip.compress(c)[-4:]), "damaged gzip"),
    "gzip header only": (edit(IMAGES, lambda c: b"\x1f\x8b"), ""),
}


@pytest.mark.parametrize(("breakage", "words"), MALFORMED_IDX.values(), ids=MALFORMED_IDX)
def test_malformed_idx_is_refused(three, tmp_path, breakage, words):
    folder = write_idx(tmp_path, three)
    datasets.load(folder)
    breakage(folder)
    refused(folder, words)


def refused(source, words):
    with pytest.raises(DataError) as caught:
        datasets.load(source)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


ROW = ",".join(["0"] * 784)
HEADER = "label," + ",".join(f"pixel{k}" for k in range(784))

MALFORMED_CSV = {
    "empty": ("", "is empty"),
    "too few columns": ("label,pixel0\n1,0\n", "2 columns instead of 785"),
    "Kaggle's test set, without labels": (HEADER.removeprefix("label,") + "\n", "no column of labels"),
    "header in another order": (
        "label," + ",".join(f"pixel{k}" for k in reversed(range(784))) + "\n",
        "not in their order",
    ),
    "header only": (HEADER + "\n", "no images"),
    "short line": (f"{HEADER}\n1,{ROW}\n1,{ROW[:-2]}\n", "line 3: has 784 values instead of 785"),
    "all lines short": (f"{HEADER}\n1,{ROW[:-2]}\n", "line 2: has 784 values instead of 785"),
    "words": (f"{HEADER}\n1,{ROW[:-1]}x\n", "whole numbers"),
    "comment": (f"{HEADER}\n1,{ROW}\n#0,{ROW}\n", "whole numbers"),
    "fractions": (f"{HEADER}\n1,{ROW[:-1]}0.5\n", "line 2: pixel 0.5 is not a whole number"),
    "nan": (f"{HEADER}\n1,{ROW[:-1]}nan\n", "line 2: pixel nan is not"),
    "pixel above": (f"{HEADER}\n1,{ROW}\n0,{ROW[:-1]}256\n", "line 3: pixel 256 is not a whole number within 0…255"),
    "pixel below": (f"{HEADER}\n1,{ROW[:-1]}-1\n", "line 2: pixel -1"),
    "label below": (f"{HEADER}\n-1,{ROW}\n", "line 2: label -1"),
    "label beyond bytes": (f"{HEADER}\n1,{ROW}\n999,{ROW}\n", "line 3: label 999"),
    "a single class": (f"{HEADER}\n1,{ROW}\n1,{ROW}\n", "two classes"),
    "one image of a class": (f"{HEADER}\n1,{ROW}\n1,{ROW}\n2,{ROW}\n", "single image"),
    "not text": ("\udcff\udcfe", "UTF-8 text: save the file as UTF-8"),
}


@pytest.mark.parametrize(("content", "words"), MALFORMED_CSV.values(), ids=MALFORMED_CSV)
def test_malformed_csv_is_refused(tmp_path, content, words):
    path = tmp_path / "digits.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    refused(path, words)


@pytest.mark.parametrize("names", [("train", "val"), ("training", "testing")])
def test_usual_names_of_the_parts(three, tmp_path, names):
    for name, split in zip(names, (three.train, three.test), strict=True):
        write_images(tmp_path / name, split)
    data = datasets.load(tmp_path)
    assert data.labels == THREE
    assert by_label(data.test) == by_label(three.test)


def test_idx_folder_without_a_test_part(three, tmp_path):
    folder = write_idx(tmp_path, three)
    for name in (TEST_IMAGES, TEST_LABELS):
        (folder / name).unlink()
    data = datasets.load(folder)
    assert len(data.train) + len(data.test) == len(three.train)


def test_kaggles_unlabelled_test_set_is_left_aside(three, tmp_path):
    write_csv(tmp_path / "train.csv", three.train)
    (tmp_path / "test.csv").write_text(HEADER.removeprefix("label,") + f"\n{ROW}\n")
    data = datasets.load(tmp_path)
    assert len(data.train) + len(data.test) == len(three.train)


def test_malformed_folders_are_refused(three, tmp_path):
    refused(tmp_path / "nowhere", "no such file or folder")
    refused("~no-such-user/data", "write the path out")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "not a .csv file")
    refused(tmp_path, "holds no data set")
    (tmp_path / "photos" / "a").mkdir(parents=True)
    refused(tmp_path / "photos", "hold no images")
    write_images(tmp_path / "gap", three.train)
    (tmp_path / "gap" / "square").mkdir()
    refused(tmp_path / "gap", "square: holds no images")
    write_images(tmp_path / "deep" / "2026", three.train)
    refused(tmp_path / "deep", "lies deeper")
    refused("/dev/null", "not a .csv file")
    write_images(tmp_path / "broken", three.train)
    (tmp_path / "broken" / "cross" / "bad.png").write_bytes(b"\x89PNG broken")
    refused(tmp_path / "broken", "bad.png")
    write_images(tmp_path / "extra" / "train", three.train)
    write_images(tmp_path / "extra" / "test", three.test, names=("circle", "cross", "square"))
    refused(tmp_path / "extra", "'square' has no folder under")


def test_an_altered_mnist_is_refused(mnist, tmp_path, monkeypatch):
    images = mnist.test.images.copy()
    images[0, 0, 0] ^= 1
    altered = Dataset("mnist", "mnist", mnist.labels, mnist.train, Split(images, mnist.test.labels))
    write_idx(tmp_path / "mnist", altered)
    monkeypatch.setattr(datasets, "CHECKOUT_DATASETS", tmp_path)
    with pytest.raises(DataFormatError, match=r"mnist: the test-images have SHA-256 .* not the canonical MNIST"):
        datasets.load("mnist")


def test_a_lying_header_allocates_nothing(three, tmp_path):
    import tracemalloc

    folder = write_idx(tmp_path, three)
    edit(IMAGES, lambda c: header(2**20, 2**10, 2**10) + c[16:])(folder)
    tracemalloc.start()
    with pytest.raises(DataFormatError):
        datasets.load(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_names_are_not_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataNotFoundError, match=r"no such file or folder, nor one of the known names \(mnist, "):
        datasets.load("minst")
