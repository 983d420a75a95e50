"""Check that other engines read our ONNX files and agree: scripts/check_interop.py [BUNDLE|ARCHITECTURE ...].

    python scripts/check_interop.py [--peers NAME,…] [--list] [--cache DIR] [--write] [MODEL ...]

Every peer answers the first 1,000 test images with `model.onnx` and `model.int8-static.onnx`, or, if it cannot read
ONNX, in float32 with what is converted from the PyTorch module. The reference is the PyTorch model itself; the
tolerances are those of mnist_edge/export/parity.py. The models are `cnn`, `cnn-nano` and `simple-nn` unless bundles or
architectures are named; bundles of architectures are made in artifacts/engines.

Each peer gets an environment of its own in a folder outside the repository (`--cache`), made when it is first needed.
One that cannot be installed or fails is named with the reason. The exit code is 1 if a peer does not agree, or if none
answers. `--write` writes the table into docs/interop.md.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from peers import options, table
from peers.agreement import Agreement, agreement
from peers.children import Child
from peers.environments import UnavailableError, make
from peers.subjects import COMPARED, FORMATS, Subject, subject
from peers.table import Peer, Source
from tables import markdown, paragraph

from mnist_edge.bundle.layout import Format
from mnist_edge.contract import HEIGHT, INPUT_NAME, WIDTH
from mnist_edge.errors import MnistEdgeError
from mnist_edge.runtime.session import Session

RESULT = "interop"


def formats(peer: Peer) -> tuple[Format, ...]:
    return FORMATS if peer.source is Source.ONNX else (Format.ONNX,)


def answer(peer: Peer, one: Subject, form: Format, cache: Path) -> tuple[str, Agreement]:
    """The engine's version, and how it agrees on a file.

    Raises:
        UnavailableError: the peer cannot answer.
    """
    command, packages = make(peer.environment, cache)
    file = one.source(peer, form, cache)
    with Child(command, peer.program, packages, cache / "home", 1) as child:
        version = child.load(file, 1, peer.variant)
        return version, agreed(child, one, form)


def agreed(child: Child, one: Subject, form: Format) -> Agreement:
    """How a peer that has opened a file agrees."""
    images = np.fromfile(one.images[COMPARED], np.uint8).reshape(-1, 1, HEIGHT, WIDTH)
    (bare,) = Session((one.bundle / form.file_name).read_bytes()).run(None, {INPUT_NAME: images})
    found = child.logits(one.images[COMPARED], one.logits.shape[1])
    return agreement(found, one.logits, bare, form)


def measured(peers: list[Peer], subjects: list[Subject], cache: Path) -> dict[str, Any]:
    """By peer: its version, the figures of each file, and what hinders it."""
    results: dict[str, Any] = {}
    for peer in peers:
        entry: dict[str, Any] = {"version": "", "files": {}, "omitted": []}
        for one in subjects:
            for form in formats(peer):
                name = f"{one.bundle.name}: {form}"
                try:
                    entry["version"], figures = answer(peer, one, form, cache)
                except UnavailableError as error:
                    entry["omitted"].append(f"{name}: {error}")
                    continue
                entry["files"][name] = asdict(figures) | {"format": str(form)}
        results[peer.name] = entry
        print(f"{peer.name} {entry['version']}: {told(entry)}", file=sys.stderr, flush=True)
    return results


def told(entry: dict[str, Any]) -> str:
    failures = [f"{name}: {'; '.join(each['failures'])}" for name, each in entry["files"].items() if each["failures"]]
    return "; ".join([f"{len(entry['files'])} files answered", *failures, *entry["omitted"]])


def lines(found: dict[str, Any]) -> list[str]:
    """The table, and the reasons of those that are not in it."""
    rows, notes = [], []
    for peer in table.PEERS:
        if (entry := found.get(peer.name)) is None:
            continue
        if entry["files"]:
            cells = [cell(entry, form) for form in FORMATS]
            rows.append(
                [f"{peer.name} {entry['version']}", str(peer.source), *(part for pair in cells for part in pair)]
            )
        notes += [line for each in entry["omitted"] for line in paragraph(f"- {peer.name}, {each}", indent="  ")]
    head = ["engine", "runs", "float32: max Δlogit", "flips"]
    head += ["int8-static: from PyTorch", "from onnxruntime", "flips"]
    return [*markdown(head, rows, left=2), *(["", "Did not answer:", "", *notes] if notes else [])]


def cell(entry: dict[str, Any], form: Format) -> list[str]:
    """The largest figures over the models; those of int8 in standard deviations of the logits, as its tolerance is."""
    figures = [each for each in entry["files"].values() if each["format"] == form]
    if not figures:
        return ["", "", ""] if form is Format.INT8_STATIC else ["", ""]
    flips = str(max(each["flips"] for each in figures))
    if form is Format.ONNX:
        return [f"{max(each['from_pytorch'] for each in figures):.1e}", flips]
    shares = [max(each[key] / each["std"] for each in figures) for key in ("from_pytorch", "from_onnxruntime")]
    return [*(f"{share:.3f} σ" for share in shares), flips]


def main() -> int:
    given = options.parser(__doc__ or "").parse_args()
    peers = options.wanted_peers(given, table.chosen(given.peers))
    subjects = [subject(name, given.cache) for name in given.models]
    found = measured(peers, subjects, given.cache)
    options.keep(RESULT, found)
    options.finish("interop", lambda: lines(found), write=given.write)
    held = {peer.name for peer in peers if peer.held}
    wrong = [
        f"error: {name}: {file}: does not agree: {'; '.join(each['failures'])}"
        for name, entry in found.items()
        for file, each in entry["files"].items()
        if name in held and each["failures"]
    ]
    silent = [] if any(entry["files"] for entry in found.values()) else ["error: no peer has answered"]
    print("\n".join([*wrong, *silent]), file=sys.stderr)
    return int(bool(wrong or silent))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MnistEdgeError as error:
        sys.exit(f"error: {error}")
