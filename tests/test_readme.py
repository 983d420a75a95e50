"""The README and the pages in docs: their blocks run, their links lead somewhere, their facts are those of the code."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from mnist_edge import Classifier
from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.errors import ModelNotFoundError
from mnist_edge.runtime.model import PRETRAINED
from mnist_edge.training.recipes import RECIPES
from tests import blocks
from tests.blocks import Broken, blocks_of
from tests.helpers import run_cli, script, subset, write_idx

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"]
QUICK = [path for path in PAGES if path.name not in ("own-models.md", "data.md", "c.md", "interop.md")]
"""All but those that train and export networks of their own, which takes minutes."""

TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}

NOT_IN_A_CLONE = (".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", "build", "dist")


def bare_clone(folder: Path) -> Path:
    """A copy of the repository without anything that was made in it."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_IN_A_CLONE, ARTIFACTS, "tests"))
    shutil.copytree(ROOT / "artifacts" / "datasets" / "mnist", folder / "artifacts" / "datasets" / "mnist")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "pages", [QUICK, pytest.param(PAGES, marks=pytest.mark.long)], ids=["of quick pages", "of all pages"]
)
def test_every_block_runs_in_a_bare_clone(tmp_path, mnist, pages):
    clone = bare_clone(tmp_path / "mnist-edge")
    # A training without --data takes this instead of all of MNIST: an eightieth of it, under the same name.
    small = write_idx(tmp_path / "mnist", subset(mnist, 800, 200))
    env = blocks.environment(tmp_path, PYTHONPATH=str(clone), MNIST_EDGE_DATA=str(small), OMP_NUM_THREADS="1")
    failures = []
    for path in pages:
        for block in blocks_of(path, ROOT):
            try:
                blocks.run(block, clone, env)
            except Broken as failure:  # the others run, too, so that all failures show at once
                failures.append(str(failure))
    assert not failures, "\n\n".join(failures)


def test_every_block_can_run_or_says_why_not():
    for path in PAGES:
        for block in blocks_of(path, ROOT):
            blocks.check_marks(block)


PAGE = """
# A page

<!-- exact -->
```console
$ echo 1.25 apples  # a comment
1.25 apples
```
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("", ""), None),
        (("1.25 apples\n```", "1.26 apples\n```"), "page.md:6: $ echo 1.25"),
        (("<!-- exact -->", ""), None),
        (("<!-- exact -->\n```console\n$ echo 1.25", "```console\n$ echo 7"), None),
        (("apples\n```", "pears\n```"), "page.md:6"),
        (("$ echo 1.25 apples", "$ false"), "page.md:6: $ false"),
        (("$ echo 1.25 apples", "$ false | echo 1.25 apples"), "exit code 1"),
        (("$ echo 1.25", "$ echo more; echo 1.25"), "page.md:6"),
        (("1.25 apples\n```", "…\n1.25 apples\n```"), None),
        (("1.25 apples\n```", "error: 1.25 apples\n```"), "exit code 0"),
        (("$ echo 1.25 apples", "$ echo error: 1.25 apples >&2; exit 3;"), "exit code 3"),
        (("console", "bash"), "page.md:6: bash"),
        (("console", ""), "page.md:6: no language"),
        (("```console\n$ echo", "```console\necho"), "begins with a command"),
        (("<!-- exact -->", "<!-- not run: -->"), "without a reason"),
        (("<!-- exact -->", "<!-- not run: it takes too long -->"), None),
        (("<!-- exact -->", "<!-- exactly -->"), "page.md:4: unknown mark"),
        (("<!-- exact -->", "<!-- exact -->\nText"), "page.md:5: a mark"),
        (("```console\n$ echo 1.25 apples", "```python\nprint(1.25)"), "SyntaxError"),
        (("```console\n$ echo 1.25 apples  # a comment\n1.25 apples", "```python\n\nprint(1)  # 1"), None),
        (("```console\n$ echo 1.25 apples  # a comment\n1.25 apples", "```python\n\nprint(1)  # 2"), "page.md:6"),
        (("```console\n$ echo 1.25 apples  # a comment\n1.25 apples", "```python\n\n1 / 0"), "page.md:7"),
        (("```console\n$ echo 1.25 apples  # a comment\n1.25 apples", "```pycon\n>>> 1 + 1\n2"), None),
        (("```console\n$ echo 1.25 apples  # a comment\n1.25 apples", "```pycon\n>>> 1 + 1\n3"), "page.md:6"),
        (("apples\n```\n", "apples\n"), "without an end"),
    ],
)
def test_a_broken_block_is_noticed(tmp_path, change, message):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace(*change))
    expected = pytest.raises(Broken, match=re.escape(message)) if message else contextlib.nullcontext()
    with expected:
        for block in blocks_of(page, tmp_path):
            blocks.run(block, tmp_path, blocks.environment(tmp_path))


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", TEXTS[page]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_leads_to_every_page():
    for page in DOCS.glob("*.md"):
        assert f"(docs/{page.name}" in README, page.name


def test_the_readme_is_short_and_lines_are_not_long():
    assert len(README.splitlines()) <= 170
    for name, text in TEXTS.items():
        for number, line in enumerate(text.splitlines(), start=1):
            assert len(line) <= 120 or line.startswith("|"), f"{name}:{number}"


@cache
def help_of(command: str) -> str:
    result = run_cli(*command.split(), "--help", COLUMNS="200")
    assert result.returncode == 0, command
    return result.stdout.decode()


def commands_shown() -> set[tuple[str, str]]:
    """What the pages show of each command: the command and an option of it, or an empty string."""
    shown = set()
    for page, text in TEXTS.items():
        if page == "docs/experiments.md":
            continue
        spans = re.findall(r"^\$ (.*?)(?:  #.*)?$|`([^`\n]+)`", text, re.MULTILINE)
        for span in (console or inline for console, inline in spans):
            for part in re.split(r"[|;<>]", span):
                if call := re.match(r"(?:mnist-edge )(?P<command>[a-z]+)(?P<rest>.*)", part.strip()):
                    options = re.findall(r"(?<![\w-])(--[a-z-]+)", call["rest"])
                    shown |= {(call["command"], option) for option in ("", *options)}
                elif call := re.match(r"(train|export|evaluate|predict|read) (--[a-z-]+)", part.strip()):
                    shown.add((call[1], call[2]))
    return shown


@pytest.mark.parametrize(("command", "option"), sorted(commands_shown()))
def test_every_command_and_option_that_is_shown_exists(command, option):
    assert option in help_of(command)


def test_every_script_that_is_shown_exists():
    for text in TEXTS.values():
        for path in re.findall(r"(?:\./|python )(scripts/[a-z_0-9.]+)", text):
            assert (ROOT / path).is_file(), path


def test_the_table_of_commands_is_complete():
    for command in re.findall(r"^  ([a-z]+)  ", help_of(""), re.MULTILINE):
        assert re.search(rf"^\| .*`{command}`.* \|", README, re.MULTILINE), command


def test_the_epochs_that_are_told_are_those_of_the_recipes():
    for name, recipe in RECIPES.items():
        (trained,) = re.findall(rf"^\| `{name}`.*", TEXTS["docs/training.md"], re.MULTILINE)
        measured = next(
            row for row in re.findall(rf"^\| `{name}`.*", TEXTS["docs/benchmarks.md"], re.MULTILINE) if "±" in row
        )
        assert f"{recipe.epochs} epochs" in trained, trained
        assert measured.endswith(f"| {recipe.epochs} |"), measured


@pytest.mark.parametrize("model", [path.name for path in Path(PRETRAINED).iterdir() if path.is_dir()])
def test_the_table_of_pretrained_models_is_that_of_their_manifests(model):
    manifest = reading.read_manifest(Path(PRETRAINED, model))
    file = manifest.recommended.file
    (row,) = re.findall(rf"^\| `{model}`.*", README, re.MULTILINE)
    size, accuracy, microseconds = row.strip("| ").split(" | ")[1:]
    assert size == f"{manifest.files[file].bytes / 1000:.1f} KB"
    assert accuracy == f"{manifest.files[file].parity.accuracy:.2%}".replace("%", " %")
    assert microseconds == f"{manifest.measured[file].microseconds:.0f} µs"


def test_every_figure_has_one_place_and_every_place_an_end(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import write_figures

    places = [place[1] for text in TEXTS.values() for place in write_figures.PLACE.finditer(text)]
    assert sorted(places) == sorted([*write_figures.FIGURES, "licenses"])  # scripts/licenses.py
    for page, text in TEXTS.items():
        marks = re.findall(r"^<!-- (figures|end)", without_blocks(text), re.MULTILINE)
        assert marks == ["figures", "end"] * (len(marks) // 2), page


def test_the_figures_of_the_readme_are_those_of_the_models(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import write_figures

    subjects = write_figures.Subjects({})
    assert write_figures.filled(README, subjects, []) == README, "run  python scripts/write_figures.py readme"
    for right, wrong in (("`cnn` (default) | ", "`cnn` (default) | 1"), ("seven.jpg  7  ", "seven.jpg  3  ")):
        assert right in README
        assert write_figures.filled(README.replace(right, wrong), subjects, []) == README


def test_figures_that_cannot_be_made_stay(monkeypatch, tmp_path, mnist):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import write_figures

    monkeypatch.chdir(tmp_path)
    subjects = write_figures.Subjects({})
    monkeypatch.setitem(vars(subjects), "data", mnist)
    page, missing = "<!-- figures: accuracy -->\n| kept |\n<!-- end -->\n", []
    assert write_figures.filled(page, subjects, missing) == page
    assert len(missing) == 1
    assert "run  python scripts/measure_models.py 5 cnn-nano cnn cnn-large" in missing[0]


def test_a_model_may_have_its_own_number_of_seeds():
    asked = script("measure_models").asked
    assert asked([]) == dict.fromkeys(Architecture, 5)
    assert asked(["3", "cnn"]) == {"cnn": 3}
    assert asked(["2", "cnn-nano", "cnn-large=1"]) == {"cnn-nano": 2, "cnn-large": 1}


def test_models_that_do_not_ship_need_not_be_trained_again(monkeypatch, tmp_path, mnist):
    monkeypatch.chdir(tmp_path)
    measure = script("measure_models")
    assert measure.recipe_on(Architecture.CNN, mnist).drawn_digits > 0
    assert measure.recipe_on(Architecture.SIMPLE_NN, mnist) == RECIPES[Architecture.SIMPLE_NN]
    assert measure.kept(mnist, []) == {}
    monkeypatch.setattr(measure, "kept_of", lambda architecture, _: ["facts"] * (architecture is Architecture.CNN))
    assert measure.kept(mnist, ["cnn"]) == {Architecture.CNN: ["facts"]}
    with pytest.raises(ModelNotFoundError, match=r"holds no cnn-nano of the current recipe"):
        measure.kept(mnist, ["cnn-nano", "cnn"])


def test_no_line_with_figures_stands_on_two_pages():
    homes: dict[str, set[str]] = {}
    for page, text in TEXTS.items():
        for line in without_blocks(text).splitlines():
            if re.search(r"\d\.\d", line):
                homes.setdefault(" ".join(line.split()), set()).add(page)
    assert not {line: pages for line, pages in homes.items() if len(pages) > 1}


def test_the_api_reference_is_up_to_date():
    result = subprocess.run(
        [sys.executable, "-c", "import write_api; print(write_api.page(), end='')"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "scripts", ROOT)))},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == TEXTS["docs/api.md"], "run  python scripts/write_api.py"


def test_the_api_reference_names_all_that_is_public():
    headings = re.findall(r"^#+ (.*)$", TEXTS["docs/api.md"], re.MULTILINE)
    public = {f"Classifier.{name}" for name in vars(Classifier) if not name.startswith("_")}
    assert public <= {*headings}
    assert {"Classifier", "Prediction", "Reading"} <= {*headings}


def test_every_term_of_the_glossary_is_used():
    terms = re.findall(r"^\| ([a-z -]+) \|", TEXTS["docs/glossary.md"], re.MULTILINE)[1:]
    assert len(terms) >= 10
    assert terms == sorted(terms)
    elsewhere = " ".join(text for page, text in TEXTS.items() if page != "docs/glossary.md").lower()
    for term in terms:
        assert term in elsewhere, term


def test_terms_that_stand_out_are_in_the_glossary():
    """The first use of a term of ours is set in italics and explained there."""
    glossary = TEXTS["docs/glossary.md"]
    for page, text in TEXTS.items():
        prose = without_blocks(text)
        if page.startswith("docs/troubleshooting"):  # italics are error messages there
            continue
        for term in re.findall(r"(?<![\w*])\*([a-zA-Z][\w -]*)\*(?![\w*])", prose):
            word = {"abstains": "abstain", "calibrated": "calibration split"}.get(term.lower(), term.lower())
            assert f"| {word} |" in glossary, (page, term)
