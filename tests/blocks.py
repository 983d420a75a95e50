"""Run the fenced blocks of Markdown pages as a reader would, and compare what they print with what the page shows.

In a ``console`` block every line after ``$`` is a command; the lines below it are its output. They are compared with
all that it prints on stdout, or on stderr if they begin with ``error:``; then the command must fail. A line ``…``
stands for any number of lines, and numbers may differ, unless the block is marked as exact. Without such lines only the
exit code counts. A ``python`` block runs in a fresh process; each comment behind a ``print``, or after ``# prints:``,
is a line of its output. A ``pycon`` block is a doctest. ``text`` is not run. A comment above a block may mark it::

    <!-- exact -->              numbers must be equal, too
    <!-- needs: flask -->       skip it where that package is not installed
    <!-- not run: reason -->    it cannot run in a test

The marks around figures, which scripts/write_figures.py fills in, are no business of this module.
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RUN = ("console", "python", "pycon")
TIMEOUT = 120

_FENCE = re.compile(r"^( *)```(\S*)$")
_MARK = re.compile(r"^<!-- *(exact|needs|not run)(?:: *(.*?))? *-->$")
_FIGURES = re.compile(r"^<!-- (figures: [\w-]+|end) -->$")
_NUMBER = re.compile(r"-?\d[\d,.]*(e[-+]\d+)?")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    """Of its first line of content."""

    language: str
    text: str
    marks: Mapping[str, str]

    def at(self, offset: int = 0) -> str:
        return f"{self.page}:{self.line + offset}"


class Broken(Exception):  # noqa: N818
    """A block does not do what its page says."""


def blocks_of(path: Path, root: Path) -> list[Block]:
    """The fenced blocks of a page, in order. Raises Broken if a mark is unknown or a fence is left open."""
    page, lines = str(path.relative_to(root)), path.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    marks: dict[str, str] = {}
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if _FIGURES.match(line):
            continue
        if line.startswith("<!--"):
            mark = _MARK.match(line)
            if mark is None:
                raise Broken(f"{page}:{number}: unknown mark {line!r}")
            marks[mark[1]] = mark[2] or ""
        elif fence := _FENCE.match(line):
            start, closing = number, f"{fence[1]}```"
            while number < len(lines) and lines[number] != closing:
                number += 1
            if number == len(lines):
                raise Broken(f"{page}:{start}: a block without an end")
            text = "\n".join(each.removeprefix(fence[1]) for each in lines[start:number]) + "\n"
            number += 1
            found.append(Block(page, start + 1, fence[2], text, marks))
            marks = {}
        elif line.strip() and marks:
            raise Broken(f"{page}:{number}: a mark that stands above no block")
    return found


def check_marks(block: Block) -> None:
    """Raise Broken unless a block can be run, or says why it is not."""
    if "not run" in block.marks:
        if len(block.marks["not run"].split()) < 3:
            raise Broken(f"{block.at()}: is not run, without a reason")
    elif block.language not in (*RUN, "text"):
        raise Broken(f"{block.at()}: {block.language or 'no language'}: use one of {RUN}, or say why it is not run")


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of a reader who has installed the package, and whose home is empty."""
    programs, home = folder / "bin", folder / "home"
    for name, arguments in (("mnist-edge", "-W error -m mnist_edge"), ("python", "")):
        program = programs / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    home.mkdir(exist_ok=True)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MNIST_EDGE_", "XDG_", "GITHUB_"))
    }
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "ORT_DISABLE_TELEMETRY": "1", **variables}


def run(block: Block, folder: Path, env: Mapping[str, str]) -> None:
    """Run a block in a folder. Raises Broken, with page and line, if it fails or prints something else."""
    check_marks(block)
    if "not run" in block.marks or block.language == "text":
        return
    if (needed := block.marks.get("needs")) and importlib.util.find_spec(needed) is None:
        return
    {"console": _run_console, "python": _run_python, "pycon": _run_doctest}[block.language](block, folder, env)


def _run_console(block: Block, folder: Path, env: Mapping[str, str]) -> None:
    lines = block.text.splitlines()
    if not lines or not lines[0].startswith("$ "):
        raise Broken(f"{block.at()}: a console block begins with a command, after $")
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        command, shown = lines[start].removeprefix("$ "), lines[start + 1 : end]
        while command.endswith("\\"):
            command, shown = f"{command}\n{shown[0]}", shown[1:]
        where = f"{block.at(start)}: $ {command}"
        result = _execute(["bash", "-o", "pipefail", "-c", command], folder, env, where)
        fails = bool(shown) and shown[0].startswith("error:")
        if (result.returncode != 0) != fails:
            raise Broken(f"{where}\nexit code {result.returncode}\n{result.stdout}{result.stderr}")
        printed = result.stderr if fails else result.stdout
        if shown and not matches(shown, printed, exact="exact" in block.marks):
            raise Broken(f"{where}\nprints\n{printed}instead of\n" + "\n".join(shown))


def _run_python(block: Block, folder: Path, env: Mapping[str, str]) -> None:
    result = _execute([sys.executable, "-W", "error", "-c", block.text], folder, env, block.at())
    if result.returncode:
        number = re.findall(r'File "<string>", line (\d+)', result.stderr)
        raise Broken(f"{block.at(int(number[0]) - 1 if number else 0)}\n{result.stderr}")
    shown = re.findall(r"^(?:.*\bprint\(.*\)  # |# prints: )(.*)$", block.text, re.MULTILINE)
    if result.stdout.splitlines() != shown:
        raise Broken(f"{block.at()}\nprints\n{result.stdout}instead of\n" + "\n".join(shown))


_DOCTEST = """
import doctest, sys
test = doctest.DocTestParser().get_doctest(sys.argv[1], {}, "block", sys.argv[2], int(sys.argv[3]))
sys.exit(bool(doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed))
"""


def _run_doctest(block: Block, folder: Path, env: Mapping[str, str]) -> None:
    if ">>> " not in block.text:
        raise Broken(f"{block.at()}: a pycon block without >>>")
    command = [sys.executable, "-W", "error", "-c", _DOCTEST, block.text, block.page, str(block.line - 1)]
    result = _execute(command, folder, env, block.at())
    if result.returncode:
        raise Broken(f"{block.at()}\n{result.stdout}{result.stderr}")


def _execute(command: list[str], folder: Path, env: Mapping[str, str], where: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Broken(f"{where}\nis not done after {TIMEOUT} s") from error


def matches(shown: list[str], printed: str, *, exact: bool) -> bool:
    """Whether the lines that a page shows are those that were printed."""

    def plain(line: str) -> str:
        words = " ".join(line.split())
        return words if exact else _NUMBER.sub("#", words)

    pattern = "".join("(?:.*\n)*?" if line.strip() == "…" else re.escape(plain(line)) + "\n" for line in shown)
    return re.fullmatch(pattern, "".join(f"{plain(line)}\n" for line in printed.splitlines())) is not None
