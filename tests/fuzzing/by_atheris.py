"""Fuzz one target with atheris:  python -m tests.fuzzing.by_atheris TARGET FINDINGS SCRATCH [options of libFuzzer]

It runs in the environment that `scripts/fuzz` makes. The first finding of each kind is minimised and written into the
folder FINDINGS, and the run goes on. If the process dies, libFuzzer writes the input there.
"""

import re
import sys
from pathlib import Path
from random import Random

import atheris

PARSERS = ["mnist_edge", "PIL", "numpy.lib", "pickletools", "zipfile", "torch._weights_only_unpickler"]
"""Whose branches guide the search."""

name, findings, scratch = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

with atheris.instrument_imports(include=PARSERS):
    from tests.fuzzing.judging import Finding, judge, minimised, warm_up
    from tests.fuzzing.targets import TARGETS

    target = TARGETS[name]
    warm_up(target.run, target.seeds(), scratch)  # which imports what is imported lazily

known = {path.read_text().partition("\n")[0] for path in findings.glob("*.txt")}


def run(data: bytes) -> None:
    finding = judge(target.run, data, scratch)
    if finding is not None and finding.kind not in known:
        known.add(finding.kind)
        write(minimised(target.run, finding, scratch))


def write(finding: Finding) -> None:
    file = findings / re.sub(r"\W+", "-", finding.kind)[:80]
    file.with_suffix(".bin").write_bytes(finding.data)
    file.with_suffix(".txt").write_text(f"{finding.kind}\n{finding.text}")


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    """Half of the time along the format's structure, which libFuzzer does not know."""
    if seed % 2:
        return bytes(atheris.Mutate(data, longest))
    return target.mutate(data, Random(seed))[:longest]


atheris.Setup([sys.argv[0], *sys.argv[4:]], run, custom_mutator=mutate)
atheris.Fuzz()
