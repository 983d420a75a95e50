"""`Classifier` against PyTorch's answers, and its errors for everything that is not a batch of pixels."""

import io
import math
import shutil

import numpy as np
import pytest
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.errors import ImageFormatError, ImageNotFoundError, ImageTypeError, ModelNotFoundError, UsageError
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.runtime.prediction import softmax
from tests.helpers import long_after


@pytest.fixture(scope="module")
def classifier(bundle_dir):
    return Classifier(bundle_dir, format="onnx")


@pytest.mark.numeric
@pytest.mark.parametrize("file", ["", "model.onnx"])
def test_logits_are_pytorchs(bundle_dir, expected, file):
    logits = Classifier(bundle_dir / file, format=None if file else "onnx").logits(expected["images"])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4, rtol=0)


def test_a_copied_file_is_a_deployment(bundle_dir, expected, tmp_path):
    copied = tmp_path / "anything.onnx"
    shutil.copy(bundle_dir / "model.onnx", copied)
    np.testing.assert_allclose(Classifier(str(copied)).logits(expected["images"]), expected["logits"], atol=1e-4)


@pytest.mark.numeric
@pytest.mark.parametrize("form", ["int8-dynamic", "int8-static"])
def test_int8_answers_alike_and_alone_as_in_a_batch(bundle_dir, expected, form):
    classifier = Classifier(bundle_dir / f"model.{form}.onnx")
    together = classifier.logits(expected["images"])
    assert (together.argmax(1) == expected["logits"].argmax(1)).mean() >= 0.997
    alone = np.concatenate([classifier.logits(image[None]) for image in expected["images"][:100]])
    np.testing.assert_array_equal(alone, together[:100])


def test_batches_beyond_the_chunk(classifier, expected):
    count = 2 * CHUNK + 3
    images = np.resize(expected["images"], (count, 28, 28))
    logits = classifier.logits(images)
    assert logits.shape == (count, 10)
    np.testing.assert_allclose(logits, np.resize(expected["logits"], (count, 10)), atol=1e-4)


FEW = 3


@pytest.mark.parametrize(
    "change",
    {
        "channel axis": lambda images: images[:, None],
        "int64": lambda images: images.astype(np.int64),
        "big-endian uint16": lambda images: images.astype(">u2"),
        "big-endian int32": lambda images: images.astype(">i4"),
        "int16": lambda images: images.astype(np.int16),
        "lists": lambda images: images.tolist(),
        "list of arrays": list,
        "Fortran order": np.asfortranarray,
        "every second row of a larger array": lambda images: np.repeat(images, 2, axis=1)[:, ::2],
        "negative strides": lambda images: images[::-1].copy()[::-1],
        "read-only": lambda images: np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape),
        "masked": np.ma.masked_array,
    }.items(),
    ids=lambda item: item[0],
)
def test_right_answer_for_unusual_arrays(classifier, expected, change):
    logits = classifier.logits(change[1](expected["images"][:FEW]))
    np.testing.assert_allclose(logits, expected["logits"][:FEW], atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 28, 28), (0, 1, 28, 28)])
def test_no_images_no_answers(classifier, shape):
    logits = classifier.logits(np.empty(shape, np.uint8))
    assert logits.shape == (0, 10)
    assert logits.dtype == np.float32


ZEROS = np.zeros((2, 28, 28), np.uint8)


@pytest.mark.parametrize(
    ("images", "error", "advice"),
    [
        (ZEROS[0], ImageFormatError, "images[None]"),
        (np.zeros(784, np.uint8), ImageFormatError, "(N, 28, 28)"),
        (np.zeros((2, 784), np.uint8), ImageFormatError, "reshape(-1, 28, 28)"),
        (np.zeros((2, 28, 28, 1), np.uint8), ImageFormatError, "images[..., 0]"),
        (np.zeros((2, 3, 28, 28), np.uint8), ImageFormatError, "grey"),
        (np.zeros((2, 28, 28, 3), np.uint8), ImageFormatError, "grey"),
        (np.zeros((2, 32, 32), np.uint8), ImageFormatError, "use predict_many"),
        (np.zeros((32, 32), np.uint8), ImageFormatError, "use predict for"),
        (np.zeros((2, 27, 28), np.uint8), ImageFormatError, "(2, 27, 28)"),
        (np.zeros((1, 1, 1, 28, 28), np.uint8), ImageFormatError, "(N, 28, 28)"),
        (np.uint8(3), ImageFormatError, "shape ()"),
        (np.zeros(0, np.uint8), ImageFormatError, "(0,)"),
        ([], ImageFormatError, "shape (0,)"),
        (ZEROS.astype(np.float32), ImageTypeError, "(images * 255).round().astype('uint8')"),
        (ZEROS.astype(np.float64) + 0.5, ImageTypeError, "never normalise"),
        (ZEROS.astype(">f4"), ImageTypeError, "uint8 0…255"),
        (np.full((2, 28, 28), math.nan), ImageTypeError, "NaN or infinities"),
        (np.full((2, 28, 28), math.inf, np.float16), ImageTypeError, "NaN or infinities"),
        (ZEROS.astype(complex), ImageTypeError, "complex128"),
        (ZEROS.astype(bool), ImageTypeError, "* 255"),
        (ZEROS.astype(object), ImageTypeError, "object"),
        (ZEROS.astype(np.int16) - 1, ImageFormatError, "from -1 to -1"),
        (ZEROS.astype(np.int64) + 256, ImageFormatError, "from 256 to 256"),
        (ZEROS.astype(np.uint16) + 65535, ImageFormatError, "scale them to 8 bits"),
        (None, ImageTypeError, "object"),
        ("photo.png", ImageTypeError, "uint8"),
        ([[1, 2], [3]], ImageFormatError, "stack uint8 arrays of one shape"),
        ([ZEROS[0], np.zeros((27, 28), np.uint8)], ImageFormatError, "stack uint8 arrays of one shape"),
        ({"images": ZEROS}, ImageTypeError, "object"),
        (np.zeros((2, 28, 28), "datetime64[s]"), ImageTypeError, "datetime64"),
    ],
)
def test_what_is_not_pixels_is_refused(classifier, images, error, advice):
    with pytest.raises(error) as caught:
        classifier.logits(images)
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_are_the_fitting_builtins_too(classifier):
    with pytest.raises(TypeError):
        classifier.logits(None)
    with pytest.raises(ValueError, match="shape"):
        classifier.logits(ZEROS[0])
    with pytest.raises(FileNotFoundError):
        classifier.predict("nowhere.png")


def _png(pixels, mode="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, mode, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def sure(expected):
    """The index in `expected` of the image that PyTorch is surest of."""
    top = np.sort(expected["logits"], axis=1)
    right = expected["logits"].argmax(1) == expected["labels"]
    return int(np.argmax(np.where(right, top[:, -1] - top[:, -2], -np.inf)))


def test_every_kind_of_source_gives_the_same_prediction(classifier, expected, sure, tmp_path):
    pixels = expected["images"][sure]
    path = tmp_path / "digit.png"
    path.write_bytes(_png(pixels))
    logits = expected["logits"][sure].astype(np.float64)
    calibrated = logits / classifier.contract.calibration.temperature
    probabilities = np.exp(calibrated) / np.exp(calibrated).sum()
    with path.open("rb") as file:
        sources = [str(path), path, file, io.BytesIO(_png(pixels)), Image.open(path), pixels]
        predictions = [classifier.predict(source) for source in sources]
    for prediction in predictions:
        assert prediction.label == str(expected["labels"][sure])
        assert prediction.probability == pytest.approx(probabilities.max(), abs=1e-4)
        assert list(prediction.probabilities) == list(classifier.labels)
        assert list(prediction.probabilities.values()) == pytest.approx(probabilities.tolist(), abs=1e-4)
    assert classifier.predict_many([*sources[:2], pixels]) == predictions[:3]
    assert classifier.predict_many([]) == []
    assert list(predictions[0].logits.values()) == pytest.approx(logits.tolist(), abs=1e-4)


@pytest.mark.parametrize("dark_on_light", [False, True])
@pytest.mark.parametrize("scale", [3, 10])
def test_a_larger_picture_of_a_digit_is_framed(classifier, expected, sure, scale, dark_on_light):
    pixels = expected["images"][sure]
    large = np.kron(pixels, np.ones((scale, scale), np.uint8))
    canvas = np.zeros((400, 600), np.uint8)
    canvas[20 : 20 + large.shape[0], 300 : 300 + large.shape[1]] = large
    picture = 255 - canvas if dark_on_light else canvas
    assert classifier.predict(picture).label == str(expected["labels"][sure])


@pytest.mark.parametrize(
    ("image", "error", "advice"),
    [
        ("nowhere.png", ImageNotFoundError, "no such file"),
        (io.BytesIO(b""), ImageFormatError, "is empty"),
        (io.BytesIO(b"not a picture"), ImageFormatError, "PNG or JPEG"),
        (io.BytesIO(_png(np.full((50, 50), 9, np.uint8))[:-30]), ImageFormatError, "again"),
        (io.StringIO("text"), ImageFormatError, "binary mode"),
        (Image.new("L", (0, 5)), ImageFormatError, "empty"),
        (Image.fromarray(np.full((30, 30), 1e9, np.float32)), ImageFormatError, "8 or 16 bits"),
        (np.zeros((0, 5), np.uint8), ImageFormatError, "empty"),
        (io.TextIOWrapper(io.BytesIO(_png(np.zeros((9, 9), np.uint8)))), ImageFormatError, "binary mode"),
        (np.zeros((40, 30, 3), np.uint8), ImageFormatError, "turn colour into grey"),
        (np.zeros((1, 28, 28), np.uint8), ImageFormatError, "use predict_each(images, preprocess=False)"),
        (np.zeros((2, 1, 28, 28), np.uint8), ImageFormatError, "or probabilities(logits(images)); predict_many is for"),
        (np.zeros((2, 40, 30), np.uint8), ImageFormatError, "use predict_many"),
        (np.zeros((28, 28)), ImageTypeError, "uint8"),
        (7, ImageTypeError, "int"),
        (None, ImageTypeError, "NoneType"),
    ],
)
def test_what_is_not_a_picture_is_refused(classifier, image, error, advice):
    with pytest.raises(error) as caught:
        classifier.predict(image)
    assert advice in str(caught.value)


@pytest.mark.parametrize("shape", [(5, 28, 28), (5, 1, 28, 28)])
def test_what_the_refusal_of_a_batch_advises_works(classifier, expected, shape):
    images = expected["images"][:5].reshape(shape)
    each = [answer.probabilities for answer in classifier.predict_each(images, preprocess=False)]
    together = classifier.probabilities(classifier.logits(images))
    np.testing.assert_allclose([[*answer.values()] for answer in each], together, atol=1e-6)


def test_a_folder_is_not_a_picture(classifier, tmp_path):
    with pytest.raises(ImageFormatError, match="folder"):
        classifier.predict(tmp_path)


# Pillow warns from 9,459 and refuses from 13,378.
@pytest.mark.parametrize("side", long_after(2, [14_000, 9000, 10_000]))
def test_a_decompression_bomb_is_refused_before_it_is_decoded(classifier, side):
    bomb = _png(np.zeros((side, side), np.uint8))
    assert len(bomb) < 400_000
    with pytest.raises(ImageFormatError, match=r"scale the picture down|could be decompression bomb"):
        classifier.predict(io.BytesIO(bomb))


def test_softmax_against_the_plain_formula():
    logits = np.array([[0.0, 1.0, -2.0], [1000.0, 999.0, -1000.0]], np.float32)
    plain = np.exp(logits[0]) / np.exp(logits[0]).sum()
    np.testing.assert_allclose(softmax(logits)[0], plain, rtol=1e-6)
    np.testing.assert_allclose(softmax(logits)[1], [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1)), 0], atol=1e-12)


@pytest.mark.parametrize(
    ("mode", "scale"), [("L", 1), ("I;16", 257), ("I", 1), ("F", 1), ("RGB", 1), ("P", 1), ("RGBA", 1)]
)
def test_modes_of_pillow(classifier, expected, sure, mode, scale):
    pixels = expected["images"][sure]
    if mode == "I;16":
        picture = Image.fromarray(pixels.astype(np.uint16) * scale)
    else:
        picture = Image.fromarray(pixels.astype({"I": np.int32, "F": np.float32}.get(mode, np.uint8)))
        picture = picture.convert(mode)
    assert picture.mode == mode
    assert classifier.predict(picture).label == str(expected["labels"][sure])


def test_one_path_is_not_several_pictures(classifier):
    with pytest.raises(ImageTypeError, match="use predict"):
        classifier.predict_many("photo.png")
    with pytest.raises(ImageTypeError, match="turn colour into grey"):
        classifier.predict_many(np.zeros((40, 30, 3), np.uint8))


@pytest.mark.parametrize("value", [0, 1, 200, 255])
def test_what_is_alike_all_over_has_no_class(classifier, value):
    image = np.full((28, 28), value, np.uint8)
    assert next(classifier.predict_each(image[None], preprocess=False)).label is None
    assert classifier.predict(image).label is None


@pytest.mark.parametrize("model", [3, b"cnn", ["a"]])
def test_what_is_no_path(model):
    with pytest.raises(UsageError, match="a path or a name"):
        Classifier(model)


def test_without_a_name_it_is_the_pretrained_model():
    classifier, named = Classifier(), Classifier("cnn")
    assert classifier.labels == tuple("0123456789")
    images = np.random.default_rng(seed=0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(classifier.logits(images), named.logits(images))


def test_threads_of_numpy(bundle_dir):
    Classifier(bundle_dir, threads=np.int64(1))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True, 10**10, np.array([1, 2])], ids=str)
def test_impossible_threads(bundle_dir, threads):
    with pytest.raises(UsageError, match="threads"):
        Classifier(bundle_dir, threads=threads)


@pytest.mark.parametrize("name", ["nothing-of-that-name", "x" * 5000])
def test_a_model_that_is_nowhere(name):
    with pytest.raises(ModelNotFoundError, match=name[:20]):
        Classifier(name)
