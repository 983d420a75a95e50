"""Write the figures of the pretrained models into the documents and onto the models' cards.

    python scripts/write_figures.py [--check] [--beside NAME=WHERE ...] [PAGE ...]

PAGE is `readme`, the name of a page in docs such as `robustness`, or `cards`; all of them without one, which takes some
minutes. `--check` writes nothing, says which files would change, and fails if there are any. Nothing is timed or
trained here. Times come from the manifests; figures over several seeds from artifacts/seeds, where measure_models.py
leaves its bundles; docs/robustness.md says how to make the models in artifacts that it compares with. Where one of
these is missing, the figures that need it stay as they are, and the command fails at the end.

`--beside` adds other versions of the pretrained models to the tables, each with NAME in the headings of its columns.
WHERE is a folder with a bundle, or a folder with model.onnx, for each model; or a git revision, for the models that it
ships, as in `--beside 0.1.0=8d96fbb`, which the page on robustness always shows.
"""

import argparse
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from figures import FIGURES, Subjects, cards

from mnist_edge import Classifier
from mnist_edge.errors import MnistEdgeError

ROOT = Path(__file__).parents[1]
SHIPPED = "mnist_edge/pretrained"
CARDS = "cards"

BESIDE = "0.1.0=8d96fbb"
"""What the page on robustness always compares with: the models of that commit have the weights of 0.1.0."""

COMPARING = {"robustness", CARDS}
"""What uses that; the cards share the measurements with the page."""

PLACE = re.compile(r"(?<=^<!-- figures: )([\w-]+)( -->\n)(.*?)(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)
"""A place for figures in a document: its name, and what it holds."""

SEVEN = "docs/seven.jpg"
LABEL = re.compile(rf"(?<=^{re.escape(SEVEN)}  )\S+  \S+$", re.MULTILINE)
"""What `predict` prints for the sample in a block of a document."""

PRINTED = re.compile(r"(?<=print\(prediction\.label, round\(prediction\.probability, 3\)\)  # ).*$", re.MULTILINE)
"""The same in Python."""


def documents() -> dict[str, Path]:
    """The pages that hold figures, by name."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {path.stem.lower(): path for path in pages if PLACE.search(path.read_text(encoding="utf-8"))}


def filled(text: str, subjects: Subjects, missing: list[str]) -> str:
    """A document with new figures. Those that cannot be made stay as they are; the reasons are added to `missing`."""

    def figures(place: re.Match[str]) -> str:
        name, ending, old = place.groups()
        try:
            return name + ending + "".join(f"{line}\n" for line in FIGURES[name](subjects))
        except MnistEdgeError as error:
            missing.append(f"{name}: {error}")
            return name + ending + old

    seven = Classifier().predict(ROOT / SEVEN)
    text = LABEL.sub(f"{seven.label}  {seven.probability:.4f}", text)
    text = PRINTED.sub(f"{seven.label} {round(seven.probability, 3)}", text)
    return PLACE.sub(figures, text)


def written(pages: list[str], usual: Subjects, compared: Subjects, missing: list[str]) -> Iterator[tuple[Path, str]]:
    """What each of the pages should hold."""
    known = documents()
    for name in pages or [*known, CARDS]:
        subjects = compared if name in COMPARING else usual
        if name == CARDS:
            yield from cards(subjects).items()
        else:
            yield known[name], filled(known[name].read_text(encoding="utf-8"), subjects, missing)


def fetched(where: str, scratch: Path) -> Path:
    """The folder of a version's models; those of a git revision are put into `scratch`."""
    if Path(where).is_dir():
        return Path(where)
    command = ["git", "-C", str(ROOT), "archive", where, SHIPPED]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode:
        sys.exit(f"error: {where}: neither a folder nor a revision with models: {result.stderr.decode().strip()}")
    folder = scratch / where.replace("/", "-")
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / SHIPPED


def main(pages: list[str], beside: list[str], *, check: bool) -> None:
    known = [*documents(), CARDS]
    if unknown := [name for name in pages if name not in known]:
        sys.exit(f"error: {unknown[0]}: holds no figures: choose from {', '.join(known)}")
    missing: list[str] = []
    changed = 0
    with tempfile.TemporaryDirectory() as scratch:
        found = {name: fetched(where, Path(scratch)) for name, _, where in (each.partition("=") for each in beside)}
        usual = compared = Subjects(found)
        if not pages or not COMPARING.isdisjoint(pages):
            name, _, where = BESIDE.partition("=")
            compared = Subjects({name: fetched(where, Path(scratch)), **found})
        for path, text in written(pages, usual, compared, missing):
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                changed += 1
                print(f"{path.relative_to(ROOT)}: {'would change' if check else 'changed'}", flush=True)
                if not check:
                    path.write_text(text, encoding="utf-8")
    for reason in missing:
        print(f"not measured: {reason}", file=sys.stderr)
    sys.exit(1 if missing or (check and changed) else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=WHERE")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    main(given.pages, given.beside, check=given.check)
