"""Compare how faults of an export are noticed: 14 faults, planted into what people write and into mnist-edge.

    python scripts/compare_exporters.py [BUNDLE] [--messages]

Each fault is planted into an export by `torch.onnx.export` and onnxruntime's quantizers, and the file that is then used
is verified in the ways that documentation shows (`WAYS`). The same fault is planted into `mnist-edge export`, or into
the file that it made, and the command that meets it must refuse it. The table says what the fault does to the test
images, one at a time as on a device, and who refuses it. `--messages` adds what each refusal says.

BUNDLE is a `cnn-nano`, `cnn` or `cnn-large`, trained and exported; without it, a `cnn-nano` is trained briefly.
Optimum's column stays empty unless it is installed (`pip install optimum-onnx`). What saturating sums do shows on a
processor without VNNI, which `qemu-x86_64` emulates (on Debian: qemu-user).
"""

import argparse
import contextlib
import io
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pytest
from exporter_faults import FAULTS, NAMES, NOTHING, NOTHING_INT8, Case, Fault, Made
from exporter_ways import WAYS, answered, is_here, refused, session_of
from tables import markdown

from mnist_edge.bundle.layout import Format
from mnist_edge.data import datasets
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import ExecutionError, ParityError
from mnist_edge.export import parity
from mnist_edge.runtime.classifier import CHUNK
from tests.helpers import cli_in_process

OURS = "mnist-edge"
RIGHT, RIGHT_INT8 = "none", "none, int8"
CONTROLS = {RIGHT: NOTHING, RIGHT_INT8: NOTHING_INT8}

EMULATOR = "qemu-x86_64"
WITHOUT_VNNI = "Haswell"
EMULATED_IMAGES = 1000

EMULATED = """
import sys
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
np.save(sys.argv[3], session.run(None, {session.get_inputs()[0].name: np.load(sys.argv[2])})[0])
"""


def harm(made: Made, case: Case) -> str:
    """What a file does wrong on the test images, compared with PyTorch."""
    first_line = "cannot be loaded"
    try:
        session = session_of(made.path)
        first_line = "fails on one image"
        alone = answered(session, case.images, 1)
    except Exception:  # noqa: BLE001  # onnxruntime's errors have no base of their own
        return first_line
    told = json.loads(session.get_modelmeta().custom_metadata_map[NAMES])
    names = np.array(case.trained.contract.labels)
    wrong = int((np.array(told)[alone.argmax(axis=1)] != names[case.logits.argmax(axis=1)]).sum())
    found = [f"{wrong:,} answers change" if wrong else "no answer changes"]
    with_others = answered(session, case.images, CHUNK)
    if (moved := float(np.abs(with_others - alone).max())) > parity.FLOAT32.max_abs_diff:
        found.append(f"logits move by {moved:.2g} with the batch")
    return ", ".join(found)


def unoptimized_harm(made: Made, case: Case) -> str:
    """How many answers change where no optimization of the graph takes the dropout away."""
    with_it = answered(session_of(made.path, optimize=False), case.images, CHUNK)
    wrong = int((with_it.argmax(axis=1) != case.logits.argmax(axis=1)).sum())
    return f"{harm(made, case)}; {wrong:,} without graph optimization"


def emulated_harm(made: Made, case: Case) -> str:
    """How far a file's logits move on a processor without VNNI."""
    if shutil.which(EMULATOR) is None or platform.machine() != "x86_64":
        return f"not measured: no {EMULATOR}, or no x86-64"
    images = case.images[:EMULATED_IMAGES]
    with tempfile.TemporaryDirectory() as folder:
        pixels, logits = Path(folder, "images.npy"), Path(folder, "logits.npy")
        np.save(pixels, images)
        subprocess.run(
            [
                EMULATOR,
                "-cpu",
                WITHOUT_VNNI,
                str(Path(sys.executable).resolve()),
                "-c",
                EMULATED,
                made.path,
                pixels,
                logits,
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_CORETYPE": "Haswell"},
            stderr=subprocess.DEVNULL,  # qemu names every instruction that it lacks
            check=True,
        )
        there = np.load(logits)
    exact = case.logits[: len(images)]
    changed = int((there.argmax(axis=1) != exact.argmax(axis=1)).sum())
    furthest = float(np.abs(there - exact).max())
    return f"without VNNI {changed} of {len(images):,} answers change, logits are up to {furthest:.2g} off"


HARMS = {"saturating int8": emulated_harm, RIGHT_INT8: emulated_harm, "training mode": unoptimized_harm}
"""What tells the harm of those that do not show it in a plain run."""


@dataclass(frozen=True)
class Row:
    """What became of one fault."""

    form: Format
    harm: str
    refusals: dict[str, str | None]
    """What each way said that is installed; None if it let the fault through."""

    code: int
    """mnist-edge's exit code."""

    message: str
    """What it said."""


def ours(fault: Fault, case: Case, folder: Path) -> tuple[int, str]:
    """Plant a fault into mnist-edge; the exit code and the message of the command that meets it."""
    own = case.moved(folder / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        fault.ours(own, patch)
        result = cli_in_process(*fault.met_by(own, fault.form))
    lines = [line for line in result.stderr.decode().splitlines() if line.startswith("error: ")]
    return result.returncode, "".join(lines).removeprefix("error: ").replace(f"{own.bundle}/", "")


def measured(name: str, case: Case, ways: Iterable[str] = WAYS) -> Row:
    """Plant a fault into both, and ask everybody."""
    with tempfile.TemporaryDirectory() as scratch, quiet():
        fault = (CONTROLS | FAULTS)[name]
        made = fault.theirs(case, Path(scratch, "model.onnx"))
        tell = {"saturating int8": emulated_harm, RIGHT_INT8: emulated_harm, "training mode": unoptimized_harm}.get(
            name, harm
        )
        refusals = {way: refused(WAYS[way], made, case) for way in ways if is_here(way)}
        return Row(fault.form, tell(made, case), refusals, *ours(fault, case, Path(scratch)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what torch and the quantizers log."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def rows(case: Case) -> dict[str, Row]:
    """All faults, and two exports without one.

    Raises:
        ParityError: ours refuses one of these two, or somebody refuses the float32 one.
    """
    found = {name: measured(name, case) for name in CONTROLS | FAULTS}
    refusals = {OURS: found[RIGHT_INT8].message, **found[RIGHT].refusals, f"{OURS}, float32": found[RIGHT].message}
    for who, message in refusals.items():
        if message:
            raise ParityError(f"{who} refuses what is right: {message}")
    return found


def table(found: Mapping[str, Row]) -> list[str]:
    """Who refuses which fault, as Markdown. A way that refuses a right int8 file as well is no judge of int8 files."""
    no_judges = {way for way, message in found[RIGHT_INT8].refusals.items() if message is not None}
    lines, let_through = [], dict.fromkeys([*WAYS, OURS], 0)
    for name, row in found.items():
        cells = []
        for way in WAYS:
            if way not in row.refusals:
                cells.append("not installed")
            elif row.form is not Format.ONNX and way in no_judges:
                cells.append("refuses any int8")
            elif (message := row.refusals[way]) is not None:
                cells.append(f"refused: {message.partition(':')[0]}")
            else:
                cells.append("passes")
                let_through[way] += name in FAULTS
        let_through[OURS] += name in FAULTS and not row.code
        lines.append([name, row.harm, *cells, f"refused: exit code {row.code}" if row.code else "passes"])
    lines.append(["**let through**", "", *(f"**{count}**" for count in let_through.values())])
    head = ["fault", "what it does", *let_through]
    return markdown(head, lines, left=len(head))


def figures(bundle: Path, data: Dataset) -> list[str]:
    """The table for the documents. Raises ExecutionError if something is missing that it needs."""
    for name in WAYS:
        if not is_here(name):
            raise ExecutionError(f"{name} is not installed: pip install optimum-onnx")
    if shutil.which(EMULATOR) is None:
        raise ExecutionError(f"{EMULATOR} is not installed")
    return table(rows(Case(bundle, data)))


def main(bundle: Path | None, data: Dataset, *, messages: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        if bundle is None:
            bundle = Path(scratch, "cnn-nano")
            for command in (["train", "--fast", "--model", "cnn-nano", "--out", bundle], ["export", bundle]):
                subprocess.run([sys.executable, "-m", "mnist_edge", *map(str, command)], stdout=sys.stderr, check=True)
        found = rows(Case(bundle, data))
    print("\n".join(table(found)))
    if messages:
        for name, row in found.items():
            for who, told in {**row.refusals, "mnist-edge": row.message or None}.items():
                print(f"{name}: {who}: {told or 'passes'}")
    sys.exit(not all(found[name].code for name in FAULTS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--messages", action="store_true", help="print what each refusal says")
    chosen = parser.parse_args()
    main(chosen.bundle, datasets.load(os.environ.get("MNIST_EDGE_DATA")), messages=chosen.messages)
