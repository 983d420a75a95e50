"""Mutation testing, which shows what small faults in the code the tests notice: scripts/mutate.py [ROOM ...].

    python scripts/mutate.py [--mutants 300] [--seed 0] [--out DIR] [ROOM ...]

A mutant is the code with one fault: another comparison or operator, a constant that is one too large or too small, a
statement left out, two arguments swapped, a condition negated, None returned. Of all that are possible in a room
(`mutation_rooms.ROOMS`), some are drawn at random, and the room's quick tests run on each, in a copy of the repository.
One that fails a test, or takes far longer than the code itself, is killed. Messages, docstrings and type annotations
are left alone.

The process that starts the tests has imported the large packages and forks for each mutant. DIR/ROOM.json keeps every
mutant and what became of it: interrupted, the next run goes on from there. Prints the share killed with Wilson's 95 %
interval, and the survivors. Those in `scripts/equivalent_mutants.txt`, with the reason there, do what the code does,
and do not count.
"""

import argparse
import ast
import copy
import importlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mutation_rooms import ROOMS, Room

from mnist_edge.bundle.layout import ARTIFACTS
from tests.make_bundle import CACHE_VARIABLE

ROOT: Final = Path(__file__).parents[1]

IDLE: Final = 30
"""Seconds without any CPU time after which a process waits for what never comes."""

EQUIVALENT: Final = Path(__file__).with_name("equivalent_mutants.txt")


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    file: str
    source: str
    """The file with the fault."""

    name: str
    """The file, and the line before and after."""


# Faults. Each function yields the replacements of a node.

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.MatMult: ast.Mult,
}
_REMOVABLE: Final = (ast.Assign, ast.AugAssign, ast.Expr, ast.Raise, ast.Continue, ast.Break, ast.Delete)


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """The node with one fault, in every way."""
    yield from _other_operators(node)
    if isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)):
        yield _changed(node, test=ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, _REMOVABLE) and not _is_text(node):
        yield ast.Pass()
    match node:
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float() as number):
            yield from (ast.Constant(number + change) for change in (1, -1))
        case ast.Call(args=[first, second, *rest]) if not any(isinstance(one, ast.Starred) for one in node.args):
            yield _changed(node, args=[second, first, *rest])
        case ast.Return(value=ast.expr()) if ast.unparse(node) != "return None":
            yield ast.Return(ast.Constant(None))


def _other_operators(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=operators):
            for index, operator in enumerate(operators):
                other = _COMPARISONS[type(operator)]()
                yield _changed(node, ops=[*operators[:index], other, *operators[index + 1 :]])
        case ast.BinOp() | ast.AugAssign():
            yield _changed(node, op=_OPERATORS[type(node.op)]())
        case ast.BoolOp():
            yield _changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand


def _changed(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a file."""
    tree = ast.parse(source)
    before = ast.unparse(tree)
    for parent, field, index in list(_places(tree)):
        value = getattr(parent, field)
        node = value if index is None else value[index]
        for other in replacements(node):
            _put(parent, field, index, other)
            after = ast.unparse(ast.fix_missing_locations(tree))
            if after != before:
                yield Mutant(file, after, f"{file}: {_difference(before, after)}")
            _put(parent, field, index, node)


def _difference(before: str, after: str) -> str:
    """The first line that differs, before and after."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    one, other = next((one, other) for one, other in pairs if one != other)
    return f"{one.strip()}  ->  {other.strip()}"


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Where the nodes are that may be changed: parent, field, and index in a list."""
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, ast.AST) or _is_left_alone(node, field, child):
                continue
            if isinstance(child, (ast.expr, ast.stmt)):
                yield node, field, index if isinstance(value, list) else None
            yield from _places(child)


def _is_left_alone(parent: ast.AST, field: str, child: ast.AST) -> bool:
    """Messages, and what only type checkers read. What msgspec reads of annotations, `Meta`, is code."""
    if field in ("annotation", "returns"):
        return not any(isinstance(node, ast.Call) for node in ast.walk(child))
    if isinstance(parent, ast.Subscript) and field == "value" and ast.unparse(child) == "Annotated":
        return True
    return (
        isinstance(child, ast.JoinedStr)
        or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
        or (isinstance(parent, ast.Raise) and field != "exc")
        or (isinstance(parent, ast.Assign) and ast.unparse(parent.targets[0]) == "__all__")
    )


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def drawn(room: Room, count: int, seed: int) -> list[Mutant]:
    """So many mutants of a room at random, or all."""
    files = sorted(path for pattern in room.modules for path in ROOT.glob(pattern))
    names = [str(path.relative_to(ROOT)) for path in files]
    every = [mutant for name in names for mutant in mutants(name, (ROOT / name).read_text(encoding="utf-8"))]
    chooser = random.Random(seed)  # noqa: S311  # to draw a sample
    return chooser.sample(every, min(count, len(every)))


# Running the tests


@dataclass(frozen=True)
class Verdict:
    """What became of a run of the tests."""

    killed: bool
    how: str
    seconds: float


def tried(copied: Path, mutant: Mutant | None, tests: tuple[str, ...], limit: float) -> Verdict:
    """Run tests on a mutant, or on the code itself, in a forked process."""
    path = copied / mutant.file if mutant else None
    original = path.read_bytes() if path else b""
    if path and mutant:
        path.write_text(mutant.source, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
    try:
        process = os.fork()
        if not process:
            _child(copied, tests, keep=mutant is None)
        status, seconds = _waited(process, limit)
    finally:
        if path:
            path.write_bytes(original)
    if status is None:
        return Verdict(True, "takes too long", seconds)
    code = os.waitstatus_to_exitcode(status)
    return Verdict(code != 0, {0: "survives", 1: "fails a test"}.get(code, f"ends with {code}"), seconds)


_OPTIONS: Final = (
    *("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow and not long"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of what is imported before forking
)


def _child(copied: Path, tests: tuple[str, ...], *, keep: bool) -> None:
    """Run pytest in this process, and end it."""
    os.setsid()
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    os.chdir(copied)
    os.environ["PYTHONPATH"] = str(copied)  # for the processes that tests start
    sys.dont_write_bytecode = not keep
    sys.path[:] = [str(copied), *(entry for entry in sys.path if Path(entry).resolve() not in (ROOT, ROOT / "scripts"))]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mnist_edge", "tests")]:
        del sys.modules[name]
    code = 99
    try:
        import pytest

        code = int(pytest.main([*_OPTIONS, *tests]))
    finally:
        os._exit(code)


def _waited(process: int, limit: float) -> tuple[int | None, float]:
    """The status of a process and its CPU time in seconds; None, and it is killed, if it takes more or stands still."""
    used, since = 0.0, time.monotonic()
    while True:
        done, status, usage = os.wait4(process, os.WNOHANG)
        if done:
            return status, usage.ru_utime + usage.ru_stime
        now = _cpu_time(process)
        if now > used:
            used, since = now, time.monotonic()
        if used > limit or time.monotonic() - since > IDLE:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None, used
        time.sleep(0.02)


def _cpu_time(process: int) -> float:
    """Of a process and of those it has waited for, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _copied(folder: Path) -> Path:
    """Copy what git knows of the repository, and what it would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def interval(killed: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, killed / count
    centre = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - reach) / (1 + z * z / count), (centre + reach) / (1 + z * z / count)


def equivalent() -> set[str]:
    """The names of the mutants that do what the code does."""
    lines = EQUIVALENT.read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def examined(name: str, count: int, seed: int, out: Path) -> None:
    """Try a room's mutants and print the result."""
    room = ROOMS[name]
    for package in room.imports:
        importlib.import_module(package)
    chosen, alike = drawn(room, count, seed), equivalent()
    counted = [mutant for mutant in chosen if mutant.name not in alike]
    file = out / f"{name}.json"
    known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        copied = _copied(Path(folder))
        os.environ[CACHE_VARIABLE] = str(Path(folder, "made"))  # by the code itself, in the run without a fault
        limits: dict[tuple[str, ...], float] = {}
        for mutant in counted:
            if known.get(mutant.name) not in (None, "survives"):  # if it survived, there may be a new test
                continue
            tests = room.tests_of(mutant.file)
            if tests not in limits:
                sound = tried(copied, None, tests, math.inf)
                if sound.killed:
                    sys.exit(f"error: {name}: {sound.how} without a fault: run  pytest {' '.join(tests)}")
                limits[tests] = 5 + 4 * sound.seconds
            known[mutant.name] = tried(copied, mutant, tests, limits[tests]).how
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(known, indent=1), encoding="utf-8")
    survivors = [mutant.name for mutant in counted if known[mutant.name] == "survives"]
    killed = len(counted) - len(survivors)
    low, high = interval(killed, len(counted))
    for survivor in survivors:
        print(f"survives  {survivor}")
    print(
        f"{name}: {killed} of {len(counted)} mutants killed, {killed / max(1, len(counted)):.1%} "
        f"({low:.1%} to {high:.1%}); {len(chosen) - len(counted)} equivalent"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", default=[*ROOMS], help=f"of {', '.join(ROOMS)}")
    parser.add_argument("--mutants", type=int, default=300, help="in each room; all if there are fewer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(ARTIFACTS, "mutants"))
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    for name in given.rooms:
        if name not in ROOMS:
            parser.error(f"no room is called {name}: choose from {', '.join(ROOMS)}")
        examined(name, given.mutants, given.seed, given.out)


if __name__ == "__main__":
    main()
