"""Data sets as people have them: files under other names, CSV in other forms, EMNIST's images stored by column."""

import gzip
import string
import zipfile

import numpy as np
import pytest

from mnist_edge.data import datasets, idx
from mnist_edge.data.datasets import Split
from mnist_edge.data.idx_folders import IDX_FILES
from mnist_edge.errors import DataFormatError
from tests.data.test_datasets import write_csv, write_images
from tests.helpers import subset, write_idx

ALL = [name for names in IDX_FILES.values() for name in names]


@pytest.fixture(scope="module")
def few(mnist):
    return subset(mnist, 300, 60)


def dotted(name):
    return name.replace("-idx", ".idx")


@pytest.mark.parametrize(
    "place",
    [
        dotted,
        lambda name: f"{name}/{name}",
        lambda name: f"MNIST/raw/{name}",
        lambda name: f"digits-{name}",
        lambda name: name.replace("t10k", "test").replace("-", "_"),
        str.upper,
    ],
    ids=["dots", "nested", "torchvision", "prefix", "underscores", "capitals"],
)
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_idx_files_under_their_common_names(few, tmp_path, place, compress):
    given = write_idx(tmp_path / "given", few)
    for name in ALL:
        content = (given / name).read_bytes()
        path = tmp_path / "data" / (place(name) + (".gz" if compress else ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if compress else content)
    found = datasets.load(tmp_path / "data")
    assert found.digests == few.digests
    assert found.notes == ()


def test_a_file_beside_its_gzipped_self(few, tmp_path):
    write_idx(tmp_path, few)
    write_idx(tmp_path, few, compress=True)
    assert datasets.load(tmp_path).digests == few.digests


def test_two_sets_in_one_folder(few, tmp_path):
    write_idx(tmp_path / "one", few)
    write_idx(tmp_path / "two", few)
    with pytest.raises(DataFormatError, match=r"more than one data set, one/.* and two/.*: give the folder of one"):
        datasets.load(tmp_path)


def test_gzip_members_behind_one_another(few, tmp_path):
    folder = write_idx(tmp_path, few, compress=True)
    path = folder / f"{ALL[0]}.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    assert datasets.load(folder).digests == few.digests


@pytest.mark.parametrize("size", [0, 16, 2**32 - 1])
def test_a_gzipped_header_that_lies_is_refused_before_memory_is_asked_for(few, tmp_path, size):
    import tracemalloc

    folder = write_idx(tmp_path, few, compress=True)
    content = idx.encode(np.zeros((1, 28, 28), np.uint8))
    lying = gzip.compress(content[:4] + b"\x7f\xff\xff\xff" + content[8:])
    (folder / f"{ALL[0]}.gz").write_bytes(lying[:-4] + size.to_bytes(4, "little"))
    tracemalloc.start()
    with pytest.raises(DataFormatError):
        datasets.load(folder)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


LETTERS = ("letters", 26, 1, tuple(string.ascii_lowercase))
BALANCED = ("balanced", 47, 0, (*string.digits, *string.ascii_uppercase, *"abdefghnqrt"))
BYCLASS = ("byclass", 62, 0, (*string.digits, *string.ascii_uppercase, *string.ascii_lowercase))


@pytest.mark.parametrize(("name", "classes", "first", "labels"), [LETTERS, BALANCED, BYCLASS])
@pytest.mark.parametrize("form", ["idx", "csv"])
def test_emnist(few, tmp_path, name, classes, first, labels, form):
    """Its classes have names, its images are stored column by column."""
    images = few.train.images[: 2 * classes].transpose(0, 2, 1)
    values = np.tile(np.arange(classes, dtype=np.uint8), 2) + np.uint8(first)
    if form == "idx":
        (tmp_path / f"emnist-{name}-train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx.encode(images)))
        (tmp_path / f"emnist-{name}-train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx.encode(values)))
        found = datasets.load(tmp_path)
    else:
        path = tmp_path / f"emnist-{name}-train.csv"
        np.savetxt(path, np.column_stack([values, images.reshape(len(images), -1)]), fmt="%d", delimiter=",")
        found = datasets.load(path)
    assert found.labels == labels
    assert any("transposed" in note for note in found.notes)
    together = np.concatenate([found.train.images, found.test.images])
    assert sorted(map(bytes, together)) == sorted(map(bytes, few.train.images[: 2 * classes]))


def test_numbers_beyond_the_digits_are_their_own_names(few, tmp_path):
    folder = write_idx(tmp_path, few)
    for names, split in zip(IDX_FILES.values(), (few.train, few.test), strict=True):
        (folder / names[1]).write_bytes(idx.encode(3 * split.labels + np.uint8(1)))
    found = datasets.load(folder)
    assert found.labels == tuple(str(3 * digit + 1) for digit in range(10))
    np.testing.assert_array_equal(found.train.labels, few.train.labels)


def rows(split):
    return split.labels.astype(int), split.images.reshape(len(split), -1).astype(int)


def plain(labels, pixels):
    return [[label, *row] for label, row in zip(labels, pixels, strict=True)]


HEADERS = {
    "Kaggle": ["label", *(f"pixel{k}" for k in range(784))],
    "1x1": ["Label", *(f"{y}x{x}" for y in range(1, 29) for x in range(1, 29))],
    "numbers": ["0", "0.1", "0.2", *(f"0.{k}" for k in range(3, 785))],
    "class": ["class", *(f"p{k}" for k in range(784))],
}

FORMS = {
    **{f"header {name}": (lambda table, header=header: [header, *table], ",", str) for name, header in HEADERS.items()},
    "no header": (lambda table: table, ",", str),
    "semicolons": (lambda table: [HEADERS["Kaggle"], *table], ";", str),
    "tabs": (lambda table: table, "\t", str),
    "floats": (
        lambda table: [HEADERS["Kaggle"], *table],
        ",",
        lambda cell: cell if isinstance(cell, str) else f"{cell}.0",
    ),
    "quotes": (lambda table: [HEADERS["Kaggle"], *table], ",", lambda cell: f'"{cell}"'),
    "label last": (lambda table: [[*row[1:], row[0]] for row in [HEADERS["Kaggle"], *table]], ",", str),
    "label last, no header": (lambda table: [[*row[1:], row[0]] for row in table], ",", str),
    "blank lines": (lambda table: [*table, []], ",", str),
}


@pytest.mark.parametrize(("arranged", "delimiter", "spelled"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_csv_in_the_forms_that_people_have(few, tmp_path, arranged, delimiter, spelled, end):
    for name, split in (("mnist_train.csv", few.train), ("mnist_test.csv", few.test)):
        lines = [delimiter.join(map(spelled, row)) for row in arranged(plain(*rows(split)))]
        (tmp_path / name).write_text("\ufeff" + end.join(lines) + end, encoding="utf-8")
    assert datasets.load(tmp_path).digests == few.digests


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (["label", "Class", *(f"pixel{k}" for k in range(783))], "several columns of labels (label, Class): keep one"),
        (["label", *(f"{y}x{x}" for x in range(28) for y in range(28))], "not in their order: sort them row by row"),
    ],
)
def test_headers_that_are_refused(few, tmp_path, header, words):
    table = [header, *plain(*rows(few.train))]
    (tmp_path / "digits.csv").write_text("\n".join(",".join(map(str, row)) for row in table))
    with pytest.raises(DataFormatError) as caught:
        datasets.load(tmp_path / "digits.csv")
    assert words in str(caught.value)


@pytest.mark.parametrize("character", ["𝟓", "５", "é", "\0"])
def test_what_is_no_number_never_reaches_numpys_parser(few, tmp_path, character):
    path = tmp_path / "digits.csv"
    write_csv(path, few.train)
    text = path.read_text()
    path.write_text(text[:20_000] + character + text[20_001:], encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"digits\.csv, line \d+: "):
        datasets.load(path)


def test_a_line_without_an_end(tmp_path):
    path = tmp_path / "digits.csv"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataFormatError, match="longer than"):
        datasets.load(path)


def test_a_large_csv_takes_little_more_than_its_pixels(few, tmp_path):
    import tracemalloc

    path = tmp_path / "digits.csv"
    table = "\n".join(",".join(map(str, row)) for row in plain(*rows(few.train)))
    path.write_text("\n".join([table] * 20))
    tracemalloc.start()
    assert len(datasets.load(path).train) + len(datasets.load(path).test) == 6000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6000 * 784 * 6 + 30_000_000


def test_several_files_to_train_on(few, tmp_path):
    for name in ("a_train.csv", "b_train.csv"):
        write_csv(tmp_path / name, few.train)
    with pytest.raises(DataFormatError, match=r"several files for train \(a_train\.csv, b_train\.csv\): name the one"):
        datasets.load(tmp_path)


def test_what_macos_adds_to_archives_is_passed_over(few, tmp_path):
    write_images(tmp_path / "digits", few.train, names=few.labels)
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as archive:
        for path in (tmp_path / "digits").rglob("*.png"):
            name = path.relative_to(tmp_path / "digits")
            archive.write(path, name)
            archive.writestr(f"__MACOSX/{name.parent}/._{name.name}", b"\0\5\x16\7")
    with zipfile.ZipFile(tmp_path / "digits.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    found = datasets.load(tmp_path / "unpacked")
    assert found.digests == datasets.load(tmp_path / "digits").digests
    assert len(found.notes) == 1
    assert "set aside" in found.notes[0]


def test_what_is_done_to_pictures_is_told(few, tmp_path):
    padded = Split(np.pad(few.train.images, ((0, 0), (18, 18), (18, 18))), few.train.labels)
    write_images(tmp_path / "train", padded, names=few.labels)
    write_images(tmp_path / "test", few.test, names=few.labels)
    (note,) = datasets.load(tmp_path).notes
    assert note.startswith(f"{tmp_path / 'train'}: 300 of 300 pictures are not 28×28: all were cropped to their ink")
