"""School and handwriting typefaces, fetched once, whose digits show other countries' hands.

`drawings` writes each digit of each typeface with pens, slants and proportions that vary a little. The Playwrite
families follow the models that schools of a country teach. The pixels depend on Pillow's version of FreeType.

The packages come from npm, by name and version, into `artifacts/typefaces`; each file must have its checksum.
"""

import hashlib
import io
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_edge.errors import DataFormatError, DataNotFoundError

FOLDER: Final = Path(__file__).parents[1] / "artifacts" / "typefaces"

VERSION: Final = "5.3.0"
"""Of every package."""

SCHOOL: Final[dict[str, str]] = {
    "playwrite-at": "08f0dfd54edd9b03725816abf20dc2ed6b9fc2681fbef6a6675f54a564d1ff04",
    "playwrite-br": "42adda129225577a704348eda845696ca65d1f92c31648a8ce9251b58cf1bc69",
    "playwrite-cz": "76b07851a8e533369f387004939f0d17bcf30c81bcabccb3d87cc6dd030cf285",
    "playwrite-de-grund": "b13968a83fa9fe5328ab750e2d6516771f612955863112bb992eb134016845ba",
    "playwrite-dk-loopet": "cc6cdaed35e40fd2194e737cecfa0ce93fdfebcb8444b12bd21ce45fee4a344c",
    "playwrite-es": "890b3aa3a0fffa59833257db74b96a72eb4b7a3b8cf9c8885c35be62bd2608a0",
    "playwrite-fr-moderne": "4a9524400853229ef35148e7d10ec2cbdda0f3837cb315ac8074c94761cf0b77",
    "playwrite-fr-trad": "7d2cf8c387fe0c291000ca955999492c09e6d17da7c53b8394c1c6755bfbfca3",
    "playwrite-hr": "e26ac72585360fd13b4e666b4a0d4d17f2cf4ef86e8b9b3ffd2053f8271df60d",
    "playwrite-hu": "3a798673bec03e51ce1ea57397b4de4ca61f4d016f091e42acdcba7216e6eed0",
    "playwrite-in": "cca8d493b54e19d36016148425e13eadfe284c44dcb778db43c9717eda74afb7",
    "playwrite-it-moderna": "75a3144ff7499f11a43f2cfab88e5c374274c42e643bac4605b57502d462c058",
    "playwrite-it-trad": "b0ab790c79989176413e1ef795b30d37cb8bf38041ffc5308121c2650c94d143",
    "playwrite-mx": "6f4ddbc58abbaf03713502e7cca7bd6993b45db4e83f5923ef86c8e5b0c43294",
    "playwrite-nl": "5fc0af65a61a7e177f1cf8cc8747b5294116fd1cb2706d435f526e2a164ce914",
    "playwrite-no": "cf38585e67046dfb94353cf2c93c6fe5dc6df43e3e696b2afb31ae87f424333b",
    "playwrite-pl": "aa008cbdd35373264700febf8e190ab6358cd0bae124a3e9b37acef8984c7653",
    "playwrite-pt": "e9e30ea1a54360cf87dc1f2d94c533c48b3c96983691b4ec4f5bb632f93facee",
}
"""Package names without `@fontsource/`, and the SHA-256 of their files."""

HANDWRITING: Final[dict[str, str]] = {
    "annie-use-your-telescope": "ed1cea10322cff6e760b1c1d2cb3be8b5a3b08ddea41feae31f9f938f39fe1ab",
    "architects-daughter": "791d2009fbdc46ca3eb942c27c62c0ee353668cd290dfad17f401b8488c727a1",
    "bad-script": "3b51fb49d57c31345272b0d483be17ec99d67a3e6baf06d462b800fd6d9478cd",
    "caveat": "ebf746fc0667b9d10fcac7c8604e2ba40a264da85a1c9b48bd679c0af3221293",
    "cedarville-cursive": "dd07000aae10231af25d83ab5ea2c53a22a8c20d8eccc137d6e5798a55edc80e",
    "covered-by-your-grace": "1bd27256356f90c7bc7b463d36c05565ef4b3d655bc56d0dd7b7387114b1308d",
    "gaegu": "a288e8e1d8ba3b288bee36088ad49f3e393797b96c2cca489efcbce47d918f6f",
    "gloria-hallelujah": "8755cc046e06286eeebee193f9f753bd0f03eec44c7bf188fc883db66e7a9d91",
    "gochi-hand": "6e206b6139093775d8762503196d6d991408bd5f8393ea0357f4f89b75b195a3",
    "handlee": "e1fbeba16906d4807b42add8ab85dec533c3e667575be00ba96f050b5fc452ce",
    "homemade-apple": "0ad668da20f63bd47bb32c86e160a7cae8ef0f2e1844c405bc40e278c86b91d0",
    "indie-flower": "be380503f1e2c5ef08b8399a28f8cb2f1725527db2cb6aacec3037c2bd1b9083",
    "kalam": "0aaf22523f3c57ae19f32c4f4df0d43d6efd01b7563a19cf4ed818cd5601426d",
    "liu-jian-mao-cao": "bbffc6b7e13b1e10eff328df1d9b16ba2697b6237b34b67e9aa0450fb0b9a621",
    "mansalva": "ed850c14e8a1729761348b17e15f9ec7dc5693594d3d4a60456489ce301d883d",
    "marck-script": "c4e6f14fd3736ec94a872db215192ea7dea04f1315df1385b451c153510575da",
    "nanum-pen-script": "91c7118b1d68e8ab576addbae76351857cf5c3656b7ee496c51fe16f01258a44",
    "neucha": "8f2718549556a0c406a766edc9689801a950dc79a71cbb646fc5e2d67c49cca0",
    "patrick-hand": "c3428d02610c7b8fa92b044cf766f8c30b88bb32a47460b4ac42fa14e0bcdcc0",
    "reenie-beanie": "8a2406f9b3c0b76199dcd87288ea40480fcd8547ba1af2f9f3156205f1688be9",
    "shadows-into-light": "0885aefd34c65bd79207cffff0771ae0527f227a202bc850f8cf9a12257fc7f1",
    "sriracha": "934c3629d255c4f86f66b218cdefef90d6328727be5036fc28f953ac53a7b6f4",
    "yomogi": "db1cc83484c6552df59b9c22f2f4725ceaad79875d90f42dcc9268a5c35d5080",
}

GROUPS: Final = {"school typefaces": SCHOOL, "handwriting typefaces": HANDWRITING}

SIZE: Final = 300
"""Of the type, in pixels; digits are about two thirds as high."""

PEN: Final = (1.7, 2.9)
"""Range of the strokes' widths, in twentieths of a digit's height; broader typefaces keep their own."""


def fetch() -> None:
    """Fetch the packages that are missing.

    Raises:
        DataNotFoundError: without npm or network.
        DataFormatError: if a file is not the one that is pinned.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    pinned = SCHOOL | HANDWRITING
    missing = [f"@fontsource/{name}@{VERSION}" for name in pinned if not _file(name).exists()]
    npm = shutil.which("npm")
    if missing and npm is None:
        raise DataNotFoundError("the typefaces are fetched with npm, which is not installed")
    if missing and npm is not None:
        command = [npm, "pack", "--silent", "--fetch-retries=0", "--pack-destination", str(FOLDER), *missing]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            raise DataNotFoundError("npm could not fetch the typefaces: this needs network access once")
    for name, digest in pinned.items():
        if hashlib.sha256(_file(name).read_bytes()).hexdigest() != digest:
            raise DataFormatError(f"{_file(name)} is not the file that is pinned: delete it to fetch it again")


def _file(name: str) -> Path:
    return FOLDER / f"fontsource-{name}-{VERSION}.tgz"


def drawings(name: str, each: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Digits with their cropped ink, 0…255, `each` times every digit of a fetched typeface."""
    with tarfile.open(_file(name)) as package:
        member = package.extractfile(f"package/files/{name}-latin-400-normal.woff")
        assert member is not None
        font = ImageFont.truetype(io.BytesIO(member.read()), SIZE)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for digit in range(10):
        plain = _glyph(font, digit, 0)
        own = _pen(plain)
        for _ in range(each):
            pen = rng.uniform(*PEN) / 20 * max(plain.size)
            ink = _glyph(font, digit, max(0, round((pen - own) / 2)))
            slant, stretch = rng.normal(0, 0.1), np.exp(rng.normal(0, 0.08))
            yield digit, np.asarray(_slanted(ink, slant, stretch))


def _glyph(font: ImageFont.FreeTypeFont, digit: int, stroke: int) -> Image.Image:
    sheet = Image.new("L", (3 * SIZE, 3 * SIZE))
    ImageDraw.Draw(sheet).text((SIZE, SIZE), str(digit), 255, font=font, stroke_width=stroke)
    return sheet.crop(sheet.getbbox())


def _pen(glyph: Image.Image) -> float:
    """The width of a glyph's strokes: twice the area over the length of the edge."""
    inside = np.pad(np.asarray(glyph) > 127, 1)
    edges = sum(int((inside != np.roll(inside, 1, axis=axis)).sum()) for axis in (0, 1))
    # A slanted edge passes more pixels than it is long, by a quarter on average.
    return 2 * int(inside.sum()) / (edges / 1.27)


def _slanted(ink: Image.Image, slant: float, stretch: float) -> Image.Image:
    width, height = ink.size
    reach = abs(slant) * height
    size = int((width + reach) * stretch) + 2, height
    start = -reach if slant > 0 else 0.0
    moved = ink.transform(size, Image.Transform.AFFINE, (1 / stretch, slant, start, 0, 1, 0), Image.Resampling.BILINEAR)
    return moved.crop(moved.getbbox())
