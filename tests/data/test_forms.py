"""Data sets as people have them: files under other names, CSV in other forms, EMNIST's images stored by column."""

import gzip
import string
import struct
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from mnist_edge.data import datasets, idx
from mnist_edge.data.datasets import Split
from mnist_edge.data.idx_folders import IDX_FILES, LABELS_FILE
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


def gzip_header(name=b""):
    return b"\x1f\x8b\x08\x08" + bytes(6) + name


HUGE = struct.pack(">HBB3I", 0, 8, 3, 2_000_000, 28, 28)

ENDLESS = {
    "hardly anything": (lambda content: gzip.compress(HUGE), "1,568,000,016 bytes in"),
    "empty members": (lambda content: gzip.compress(content) + 100_000 * gzip.compress(b""), "100,000 members"),
    "a name": (lambda content: gzip_header(20_000_000 * b"x"), "cut short within a member"),
    "no header": (lambda content: gzip_header() + b"\0" + gzip.compress(content)[10:30], "damaged gzip data"),
    "something else behind": (lambda content: gzip.compress(content) + b"x", "damaged gzip data"),
}


@pytest.mark.parametrize(("change", "words"), ENDLESS.values(), ids=ENDLESS)
def test_gzipped_files_that_would_take_long(few, tmp_path, change, words):
    folder = write_idx(tmp_path, few, compress=True)
    path = folder / f"{ALL[0]}.gz"
    path.write_bytes(change(gzip.decompress(path.read_bytes())))
    start = time.process_time()
    with pytest.raises(DataFormatError, match=words):
        datasets.load(folder)
    assert time.process_time() - start < 1


def test_a_gzipped_file_may_be_padded(few, tmp_path):
    folder = write_idx(tmp_path, few, compress=True)
    with (folder / f"{ALL[0]}.gz").open("ab") as file:
        file.write(bytes(100_000))
    assert datasets.load(folder).digests == few.digests


def test_names_without_end(few, tmp_path):
    with (write_idx(tmp_path, few) / LABELS_FILE).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataFormatError, match="more than 100,000 bytes"):
        datasets.load(tmp_path)


def test_links_that_lead_to_themselves_are_no_data(few, tmp_path):
    (write_idx(tmp_path / "idx", few) / "loop").symlink_to("loop")
    assert datasets.load(tmp_path / "idx").digests == few.digests
    write_images(tmp_path / "images", few.train, names=few.labels)
    found = datasets.load(tmp_path / "images")
    (tmp_path / "images" / "10").symlink_to("10")
    (tmp_path / "images" / "0" / "loop.png").symlink_to("loop.png")
    assert datasets.load(tmp_path / "images").digests == found.digests


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


@pytest.mark.parametrize("cell", ["𝟓", "５", "1e400", "-1", "0.5", "nan", "\x1b[31m"])
def test_a_first_line_of_values_is_no_header(few, tmp_path, cell):
    table = [[cell if place == 9 else value for place, value in enumerate(row)] for row in plain(*rows(few.train))]
    path = tmp_path / "digits.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in table[:1] + plain(*rows(few.train))), encoding="utf-8")
    with pytest.raises(DataFormatError, match="line 1: "):
        datasets.load(path)


SPOILT = {
    "a quote before the last cell": (lambda line: line[: line.rindex(",")] + ',"0', "a quote is opened"),
    "a quote before the first cell": (lambda line: '"' + line, "a quote is opened"),
    "quotes around all": (lambda line: f'"{line}"', "to a number"),
    "infinity": (lambda line: line[: line.rindex(",")] + ",1e400", "pixel inf"),
    "a hexadecimal number": (lambda line: line[: line.rindex(",")] + ",0x10", "to a number"),
    "a byte order mark": (lambda line: "\ufeff" + line, "a character that no number has"),
    "no values": (lambda line: "," * 784, "to a number"),
    "blank lines": (lambda line: "\n" * 1002 + line, "more than 1,000 blank lines in a row"),
}


@pytest.mark.parametrize(("change", "words"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_line_of_csv_is_named(few, tmp_path, change, words):
    lines = [",".join(map(str, row)) for row in [HEADERS["Kaggle"], *plain(*rows(few.train))[:9]]]
    lines[5] = change(lines[5])
    path = tmp_path / "digits.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataFormatError, match=rf"digits\.csv, line \d+: .*{words}"):
        datasets.load(path)


def test_utf_16_is_refused(few, tmp_path):
    for encoding in ("utf-16", "utf-16-le"):
        path = tmp_path / "digits.csv"
        path.write_text("\n".join(",".join(map(str, row)) for row in plain(*rows(few.train))), encoding=encoding)
        with pytest.raises(DataFormatError, match=r"digits\.csv"):
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_dropped_colour_is_told_whatever_the_size(few, tmp_path, mode):
    for split, size in (("train", 28), ("test", 64)):
        for label in "01":
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number, colour in enumerate(("red", "gray", "white")):
                picture = Image.new("RGB", (size, size), "black")
                picture.paste(colour, (10, 10, 18, 18))
                path = folder / f"{number}.{'tif' if mode == 'CMYK' else 'png'}"
                picture.convert(mode).save(path)
    in_train, in_test, framed = datasets.load(tmp_path).notes
    assert in_train == f"{tmp_path / 'train'}: 2 of 6 pictures are in colour: they were turned to grey"
    assert in_test == f"{tmp_path / 'test'}: 2 of 6 pictures are in colour: they were turned to grey"
    assert "are not 28×28" in framed
