"""Realistic pictures of single digits: real MNIST test digits drawn, pasted, lit and saved in many ways.

    python -m tests.pictures FOLDER

writes them to files named `<case>-<number>-is-<label>.<suffix>`. Nothing here uses the code under test. Digits are
chosen at random, ambiguous ones included.
"""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Ink = np.ndarray  # float [height, width], 0 = none, 1 = full
Draw = Callable[[Ink, np.random.Generator], tuple[bytes, str]]
CASES: dict[str, Draw] = {}
EACH = 5


@dataclass(frozen=True)
class Picture:
    name: str
    case: str
    label: int
    content: bytes


def pictures(images, labels, *, seed: int = 0, each: int = EACH) -> Iterator[Picture]:
    """`each` pictures of every case, drawn from images uint8 [n, 28, 28] and labels [n]."""
    rng = np.random.default_rng(seed)
    for case, draw in CASES.items():
        for number, index in enumerate(rng.choice(len(images), each, replace=False)):
            content, suffix = draw(images[index] / 255, rng)
            label = int(labels[index])
            yield Picture(f"{case.replace(' ', '_')}-{number}-is-{label}.{suffix}", case, label, content)


def case(name: str) -> Callable[[Draw], Draw]:
    def add(draw: Draw) -> Draw:
        assert name not in CASES
        CASES[name] = draw
        return draw

    return add


# Drawing


def scaled(ink: Ink, side: int) -> Ink:
    """The 28×28 image, margins included, scaled to `side` pixels, with edges as sharp as a pen's."""
    large = Image.fromarray((ink * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    values = np.asarray(large) / 255
    return ((values - 0.5) * min(4, max(1, side / 56)) + 0.5).clip(0, 1) if side > 28 else values


def tight(ink: Ink) -> Ink:
    rows, columns = np.flatnonzero((ink > 0.3).any(1)), np.flatnonzero((ink > 0.3).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def pasted(ink: Ink, height: int, width: int, top: int, left: int) -> Ink:
    canvas = np.zeros((height, width))
    y, x = max(0, -top), max(0, -left)
    part = ink[y : y + height - max(top, 0), x : x + width - max(left, 0)]
    canvas[max(top, 0) : max(top, 0) + part.shape[0], max(left, 0) : max(left, 0) + part.shape[1]] = part
    return canvas


def somewhere(ink: Ink, rng, height: int = 300, width: int = 400, side: int = 180) -> Ink:
    large = scaled(ink, side)
    return pasted(large, height, width, int(rng.integers(0, height - side)), int(rng.integers(0, width - side)))


def painted(ink: Ink, ground, pen) -> np.ndarray:
    return ground * (1 - ink) + pen * ink


def byte(values) -> np.ndarray:
    return np.asarray(values).round().clip(0, 255).astype(np.uint8)


def saved(picture, form: str = "PNG", **options) -> tuple[bytes, str]:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(byte(picture))
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue(), {"JPEG": "jpg", "TIFF": "tif", "PPM": "pgm"}.get(form, form.lower())


def texture(rng, height: int, width: int, strength: float, grain: float = 3) -> np.ndarray:
    """Correlated noise with zero mean and standard deviation `strength`: the fibres of paper."""
    small = rng.normal(0, 1, (int(height / grain) + 2, int(width / grain) + 2)).astype(np.float32)
    large = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return large / large.std() * strength


def ramp(height: int, width: int, angle: float) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (x * np.cos(angle) + y * np.sin(angle)) / 2


def thickened(ink: Ink, steps: int) -> Ink:
    """Strokes widened by `steps` pixels on both sides, or narrowed if it is negative."""
    image = Image.fromarray(byte(255 * ink))
    kind = ImageFilter.MaxFilter if steps > 0 else ImageFilter.MinFilter
    for _ in range(abs(steps)):
        image = image.filter(kind(3))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(0.7))) / 255


# MNIST's own form, and file formats


@case("mnist as png")
def _(ink, rng):
    return saved(255 * ink)


def _kind(name: str, form: str, **options) -> None:
    case(f"{name}, dark on light")(lambda ink, rng: saved(painted(somewhere(ink, rng), 235, 30), form, **options))


_kind("png", "PNG")
_kind("jpeg", "JPEG", quality=90)
_kind("jpeg quality 20", "JPEG", quality=20)
_kind("bmp", "BMP")
_kind("tiff", "TIFF")
_kind("webp", "WEBP", quality=60)
_kind("pgm", "PPM")
_kind("gif", "GIF")


@case("colour")
def _(ink, rng):
    layers = [painted(somewhere(ink, np.random.default_rng(7)), *tones) for tones in ((240, 20), (235, 40), (220, 150))]
    return saved(np.stack(layers, axis=-1), "JPEG")


@case("colour ink on coloured ground")
def _(ink, rng):
    place = somewhere(ink, rng)
    ground, pen = [((250, 240, 60), (20, 40, 160)), ((40, 90, 60), (240, 230, 200)), ((250, 190, 200), (150, 20, 90))][
        rng.integers(3)
    ]
    return saved(np.stack([painted(place, *tones) for tones in zip(ground, pen, strict=True)], axis=-1))


@case("red ink on green of the same luminance")
def _(ink, rng):
    place = somewhere(ink, rng)
    return saved(np.stack([painted(place, *tones) for tones in ((60, 220), (140, 62), (60, 55))], axis=-1))


@case("yellow ink on white")
def _(ink, rng):
    place = somewhere(ink, rng)
    return saved(np.stack([painted(place, *tones) for tones in ((255, 250), (255, 230), (255, 20))], axis=-1))


@case("cmyk")
def _(ink, rng):
    grey = Image.fromarray(byte(painted(somewhere(ink, rng), 240, 20))).convert("RGB")
    return saved(grey.convert("CMYK"), "JPEG")


@case("1-bit")
def _(ink, rng):
    return saved(Image.fromarray(byte(painted(somewhere(ink, rng), 255, 0))).convert("1", dither=Image.Dither.NONE))


@case("1-bit dithered")
def _(ink, rng):
    return saved(Image.fromarray(byte(painted(somewhere(ink, rng), 225, 20))).convert("1"), "TIFF")


@case("16-bit")
def _(ink, rng):
    return saved(Image.fromarray(painted(somewhere(ink, rng), 60000, 4000).astype(np.uint16)))


@case("16-bit with 12 bits used")
def _(ink, rng):
    return saved(Image.fromarray(painted(somewhere(ink, rng), 300, 3900).astype(np.uint16)), "TIFF")


@case("float tiff 0 to 1")
def _(ink, rng):
    return saved(Image.fromarray(painted(somewhere(ink, rng), 0.9, 0.1).astype(np.float32)), "TIFF")


@case("palette")
def _(ink, rng):
    return saved(Image.fromarray(byte(painted(somewhere(ink, rng), 200, 20))).convert("RGB").quantize(16))


@case("palette with transparency")
def _(ink, rng):
    image = Image.fromarray(byte(somewhere(ink, rng) > 0.5)).convert("P")
    image.putpalette([0, 0, 0, 10, 10, 10])
    return saved(image, "GIF" if rng.random() < 0.5 else "PNG", transparency=0)


def _alpha(name: str, colour: tuple[int, int, int], under: tuple[int, int, int]) -> None:
    """Coloured ink whose shape is only in the alpha channel (under == colour), or over a hidden colour."""

    @case(name)
    def _(ink, rng):
        place = somewhere(ink, rng)
        layers = [np.where(place > 0, tone, hidden) for tone, hidden in zip(colour, under, strict=True)]
        return saved(np.stack([*layers, 255 * place], axis=-1))


_alpha("alpha, black on transparent black", (0, 0, 0), (0, 0, 0))
_alpha("alpha, black on transparent white", (0, 0, 0), (255, 255, 255))
_alpha("alpha, white on transparent white", (255, 255, 255), (255, 255, 255))
_alpha("alpha, white on transparent black", (255, 255, 255), (0, 0, 0))
_alpha("alpha, yellow on transparent", (255, 240, 90), (0, 0, 0))


@case("grey and alpha")
def _(ink, rng):
    place = somewhere(ink, rng)
    tone = rng.choice([0, 255])
    return saved(
        Image.merge("LA", [Image.fromarray(byte(np.full_like(place, tone))), Image.fromarray(byte(255 * place))])
    )


@case("alpha, opaque everywhere")
def _(ink, rng):
    place = painted(somewhere(ink, rng), 240, 20)
    return saved(np.stack([place, place, place, np.full_like(place, 255)], axis=-1))


def _turned(orientation: int, turn: Image.Transpose, form: str) -> None:
    @case(f"exif orientation {orientation}, {form}")
    def _(ink, rng):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(byte(painted(somewhere(ink, rng), 235, 40))).transpose(turn)
        return saved(stored, form, exif=exif)


_turned(3, Image.Transpose.ROTATE_180, "JPEG")
_turned(6, Image.Transpose.ROTATE_90, "JPEG")
_turned(8, Image.Transpose.ROTATE_270, "JPEG")
_turned(6, Image.Transpose.ROTATE_90, "PNG")
_turned(5, Image.Transpose.TRANSPOSE, "WEBP")


# Light, paper and dirt


@case("light on dark")
def _(ink, rng):
    return saved(painted(somewhere(ink, rng), 30, 230), "JPEG")


@case("28×28 inverted")
def _(ink, rng):
    return saved(255 - 255 * ink)


@case("28×28 off centre")
def _(ink, rng):
    small = np.asarray(Image.fromarray(byte(255 * tight(ink))).resize((10, 14), Image.Resampling.BOX)) / 255
    return saved(255 * pasted(small, 28, 28, int(rng.integers(0, 14)), int(rng.integers(0, 18))))


@case("28×28 shifted to the border")
def _(ink, rng):
    return saved(255 * np.roll(ink, (rng.choice([-4, 4]), rng.choice([-4, 4])), axis=(0, 1)))


@case("28×28 inverted, full of ink")
def _(ink, rng):
    full = Image.fromarray(byte(255 * tight(ink))).resize((28, 28), Image.Resampling.BICUBIC)
    return saved(255 - np.asarray(full))


@case("low contrast pencil")
def _(ink, rng):
    ground = 215 + texture(rng, 300, 400, 2)
    return saved(painted(somewhere(ink, rng) * 0.9, ground, 180), "JPEG")


@case("sensor noise")
def _(ink, rng):
    picture = painted(somewhere(ink, rng), 200, 60)
    return saved(picture + rng.normal(0, 30, picture.shape), "PNG")


@case("salt and pepper")
def _(ink, rng):
    picture = painted(somewhere(ink, rng), 220, 40)
    chance = rng.random(picture.shape)
    return saved(np.where(chance < 0.03, 0, np.where(chance > 0.97, 255, picture)))


@case("gradient light")
def _(ink, rng):
    light = 0.6 + 0.7 * ramp(300, 400, rng.uniform(0, 2 * np.pi))
    return saved(painted(somewhere(ink, rng), 235, 50) * light, "JPEG")


@case("gradient light, light ink")
def _(ink, rng):
    light = 90 * (1 + ramp(300, 400, rng.uniform(0, 2 * np.pi)))
    return saved(light + 100 * somewhere(ink, rng), "JPEG")


@case("shadow edge")
def _(ink, rng):
    place = ramp(300, 400, rng.uniform(0, 2 * np.pi)) + rng.uniform(-0.15, 0.15)
    light = 1 - 0.5 / (1 + np.exp(-place * rng.choice([30, 300])))
    return saved(painted(somewhere(ink, rng), 230, 45) * light, "JPEG")


@case("vignetting")
def _(ink, rng):
    y, x = np.mgrid[-1:1:300j, -1:1:400j]
    return saved(painted(somewhere(ink, rng), 230, 60) * (1 - 0.35 * (x**2 + y**2)), "JPEG")


@case("paper texture")
def _(ink, rng):
    ground = 205 + texture(rng, 300, 400, 12, grain=rng.choice([2, 4, 8]))
    return saved(painted(somewhere(ink, rng), ground, 60 + texture(rng, 300, 400, 8)), "JPEG", quality=70)


@case("specks")
def _(ink, rng):
    image = Image.fromarray(byte(painted(somewhere(ink, rng), 235, 30)))
    draw = ImageDraw.Draw(image)
    for _ in range(15):
        x, y, r = rng.integers(0, 400), rng.integers(0, 300), rng.integers(1, 4)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=int(rng.integers(10, 120)))
    return saved(image)


@case("frame line at the border")
def _(ink, rng):
    image = Image.fromarray(byte(painted(somewhere(ink, rng, side=150), 235, 30)))
    inset, thick = int(rng.integers(0, 8)), int(rng.integers(1, 6))
    ImageDraw.Draw(image).rectangle([inset, inset, 399 - inset, 299 - inset], outline=20, width=thick)
    return saved(image)


@case("form box around")
def _(ink, rng):
    image = Image.fromarray(byte(pasted(scaled(ink, 120), 300, 400, 90, 130) * -200 + 235))
    ImageDraw.Draw(image).rectangle([120, 80, 260, 220], outline=60, width=3)
    return saved(image)


@case("one line at an edge")
def _(ink, rng):
    image = Image.fromarray(byte(painted(pasted(scaled(ink, 160), 300, 400, 60, 120), 235, 30)))
    ImageDraw.Draw(image).line([4, 0, 4, 299] if rng.random() < 0.5 else [0, 294, 399, 294], fill=20, width=5)
    return saved(image)


@case("lined paper")
def _(ink, rng):
    image = Image.fromarray(byte(235 + texture(rng, 300, 400, 3)))
    draw = ImageDraw.Draw(image)
    for y in range(int(rng.integers(10, 40)), 300, 40):
        draw.line([0, y, 399, y + int(rng.integers(-3, 4))], fill=170, width=2)
    return saved(painted(somewhere(ink, rng), np.asarray(image), 40), "JPEG")


@case("ink touching the border")
def _(ink, rng):
    large = tight(scaled(ink, 200))
    picture = np.pad(large, [(0, 40), (0, 60)] if rng.random() < 0.5 else [(50, 0), (30, 0)])
    return saved(painted(picture, 235, 30))


@case("digit filling the picture")
def _(ink, rng):
    return saved(painted(tight(scaled(ink, 300)), 225, 50), "JPEG")


# Size, place and pens


def _photograph(ink, rng, side: int, height: int = 3000, width: int = 4000) -> np.ndarray:
    place = [(40, 40), (40, width - side - 40), (height - side - 40, 40), (height - side - 40, width - side - 40)]
    top, left = place[rng.integers(4)]
    ground = 190 + 50 * ramp(height, width, rng.uniform(0, 2 * np.pi)) + texture(rng, height, width, 5, grain=2)
    ground[top : top + side, left : left + side] *= 1 - 0.8 * scaled(ink, side)
    return ground


@case("corner of a 4000×3000 photograph")
def _(ink, rng):
    return saved(_photograph(ink, rng, int(rng.integers(200, 400))), "JPEG", quality=80)


@case("large photograph with 16-bit light ink")
def _(ink, rng):
    return saved(Image.fromarray((65535 - 257.0 * byte(_photograph(ink, rng, 300, 1500, 2000))).astype(np.uint16)))


@case("8×8 thumbnail")
def _(ink, rng):
    digit = tight(ink)
    side = max(digit.shape)
    square = pasted(digit, side, side, (side - digit.shape[0]) // 2, (side - digit.shape[1]) // 2)
    small = Image.fromarray(byte(255 * square)).resize((8, 8), Image.Resampling.BOX)
    return saved(small)


@case("8×8 thumbnail, dark on light")
def _(ink, rng):
    small = Image.fromarray(byte(255 - 255 * ink[3:25, 3:25])).resize((8, 8), Image.Resampling.BOX)
    return saved(small)


@case("16×16 thumbnail")
def _(ink, rng):
    small = Image.fromarray(byte(255 - 255 * ink)).resize((16, 16), Image.Resampling.BILINEAR)
    return saved(small, "JPEG", quality=85)


@case("small in a large picture")
def _(ink, rng):
    return saved(painted(somewhere(ink, rng, 600, 800, 56), 230, 30))


@case("very large strokes")
def _(ink, rng):
    return saved(painted(somewhere(ink, rng, 1000, 1200, 900), 230, 30), "JPEG")


@case("thin pen")
def _(ink, rng):
    thin = scaled(np.asarray(Image.fromarray(byte(255 * ink)).resize((84, 84), Image.Resampling.BICUBIC)) / 255, 252)
    # The skeleton of the strokes, three of 252 pixels wide.
    line = thickened(_skeleton(thin > 0.5).astype(float), 1)
    return saved(painted(pasted(line, 300, 400, 20, int(rng.integers(0, 140))), 235, 40))


def _skeleton(mask: np.ndarray) -> np.ndarray:
    """Thinning by Zhang and Suen 1984."""
    mask = np.pad(mask, 1).astype(np.uint8)
    while True:
        before = mask.copy()
        for step in (0, 1):
            north, east, south, west = mask[:-2, 1:-1], mask[1:-1, 2:], mask[2:, 1:-1], mask[1:-1, :-2]
            ring = [north, mask[:-2, 2:], east, mask[2:, 2:], south, mask[2:, :-2], west, mask[:-2, :-2]]
            count = sum(part.astype(int) for part in ring)
            rises = sum(((a == 0) & (b == 1)).astype(int) for a, b in zip(ring, ring[1:] + ring[:1], strict=True))
            one, two = (
                (east * south * north, east * south * west)
                if step == 0
                else (north * west * east, north * west * south)
            )
            gone = (mask[1:-1, 1:-1] == 1) & (count >= 2) & (count <= 6) & (rises == 1) & (one == 0) & (two == 0)
            mask[1:-1, 1:-1][gone] = 0
        if (mask == before).all():
            return mask[1:-1, 1:-1] > 0


@case("thick marker")
def _(ink, rng):
    thick = thickened(scaled(ink, 224), 5)
    return saved(painted(pasted(thick, 300, 400, 30, int(rng.integers(0, 170))), 235, 40))


@case("broken strokes")
def _(ink, rng):
    large = scaled(ink, 200)
    rows = np.flatnonzero((large > 0.5).any(axis=1))
    cut = int(rows[0] + (rows[-1] - rows[0]) * rng.uniform(0.3, 0.7))
    large[cut : cut + 5] = 0
    return saved(painted(pasted(large, 300, 400, 40, 90), 235, 40))


@case("blurred")
def _(ink, rng):
    image = Image.fromarray(byte(painted(somewhere(ink, rng), 225, 40)))
    return saved(image.filter(ImageFilter.GaussianBlur(5)), "JPEG")


@case("whiteboard glare")
def _(ink, rng):
    y, x = np.mgrid[0:300, 0:400]
    glare = np.exp(-(((x - rng.uniform(50, 350)) / 60) ** 2 + ((y - rng.uniform(50, 250)) / 40) ** 2))
    return saved(painted(somewhere(ink, rng), 190 + 60 * glare, 50 + 70 * glare), "JPEG")


@case("paper on a dark table")
def _(ink, rng):
    sheet = painted(somewhere(ink, rng), 225 + texture(rng, 300, 400, 3), 50)
    table = 60 + texture(rng, 500, 640, 8, grain=6)
    table[90:390, 110:510] = sheet
    return saved(table, "JPEG")


def main(folder: Path) -> None:
    from mnist_edge.data import datasets

    test = datasets.load().test
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures(test.images, test.labels):
        (folder / picture.name).write_bytes(picture.content)
    sys.stdout.write(f"{EACH * len(CASES)} pictures of {len(CASES)} cases in {folder}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
