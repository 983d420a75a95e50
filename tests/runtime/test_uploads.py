"""Pictures as bytes and as file objects, such as web frameworks hand over, and how a bad one is named."""

import io
import tempfile
import warnings

import numpy as np
import pytest
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.errors import ImageFormatError, ImageTypeError


@pytest.fixture(scope="module")
def classifier():
    return Classifier()


@pytest.fixture(scope="module")
def pixels():
    """A 1 on white paper."""
    paper = np.full((80, 60), 240, np.uint8)
    paper[15:65, 28:33] = 30
    return paper


@pytest.fixture(scope="module")
def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_a_picture(classifier, pixels, png, kind):
    wanted = classifier.predict(pixels)
    assert wanted.label == "1"
    assert classifier.predict(kind(png)) == wanted
    assert classifier.predict_many([kind(png), pixels]) == [wanted, wanted]
    assert list(classifier.predict_each([kind(png)])) == [wanted]
    assert classifier.read(kind(png)).text == "1"
    assert np.array_equal(classifier.preprocess(kind(png)), classifier.preprocess(pixels))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_bytes_of_one_picture_are_not_several(classifier, png, kind):
    with pytest.raises(ImageTypeError, match=f"a single {kind.__name__}: use predict"):
        classifier.predict_many(kind(png))


class Upload(io.BytesIO):
    """A file object as web frameworks give it, with the names that they give it."""

    def __init__(self, data, **names):
        super().__init__(data)
        vars(self).update(names)


NAMED = {
    "the given bytes": b"not a picture",
    "the uploaded file": io.BytesIO(b"not a picture"),
    "werkzeug.png": Upload(b"not a picture", name="field", filename="werkzeug.png"),
    "django.png": Upload(b"not a picture", name="django.png"),
    "the uploaded file ": Upload(b"not a picture", name=None, filename=""),
    r"two\nlines\x1b[31m.png": Upload(b"not a picture", filename="two\nlines\x1b[31m.png"),
    f"{200 * 'x'}…": Upload(b"not a picture", filename=999 * "x"),
}


@pytest.mark.parametrize(("name", "source"), NAMED.items(), ids=map(repr, NAMED))
def test_what_is_no_picture_is_named(classifier, name, source):
    with pytest.raises(ImageFormatError) as caught:
        classifier.predict(source)
    what = "damaged, or not a PNG" if name.endswith(".png") else "not a picture in a format that is read"
    assert str(caught.value).startswith(f"{name.strip()}: {what}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("make", [tempfile.TemporaryFile, tempfile.SpooledTemporaryFile])
def test_a_temporary_file_has_no_name_worth_telling(classifier, make):
    with make() as file, pytest.raises(ImageFormatError, match=r"^the uploaded file: is empty"):
        classifier.predict(file)


@pytest.mark.parametrize("bad", [b"", b"\x89PNG\r\n\x1a\n"])
def test_bad_bytes_are_named(classifier, png, bad):
    with pytest.raises(ImageFormatError, match=r"^the given bytes: "):
        classifier.read(bad)
    good, wrong = classifier.predict_each([png, bad])
    assert good.label == "1"
    assert str(wrong).startswith("the given bytes: ")


def test_an_upload_that_must_be_awaited(classifier):
    class Awaited:
        filename = "digit.png"

        async def read(self, size=-1):
            return b""

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageFormatError, match=r"^digit\.png: its read\(\) must be awaited: give the bytes"):
            classifier.predict(Awaited())
