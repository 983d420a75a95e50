"""Look at reports in a browser: phone and desktop, light and dark.

python scripts/check_report.py [MODEL …] [--screenshots DIR]

Makes the report of each model, or takes a page that is given, and opens it in Chromium. Fails if the browser logs
anything, asks for anything beside the page, or would scroll sideways, and if axe-core finds a serious or critical
violation. Each run proves that it can fail: it must find what is planted in a copy of the first page.

Needs ``chromium`` (on Debian a package of that name) and ``npm``; installs playwright and axe-core into a temporary
folder, or into ``--tools``.
"""

import argparse
import contextlib
import io
import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

LARGEST: Final = 600_000
"""Bytes of a page."""

WIDTHS: Final = (1280, 390)
"""A desktop's and a telephone's, in pixels."""

THEMES: Final = ("light", "dark")

PLAYWRIGHT: Final = "playwright==1.65.2"
AXE: Final = "axe-core@4.14.1"

GRAVE: Final = ("serious", "critical")

PLANTED: Final = f"""<img src="data:,"><p style="color: red">x</p><p class="whole">{"x" * 400}</p>"""
"""No words for an image, what the content security policy forbids, and a line wider than the page."""

NOTICED: Final = ("axe: critical", "console: ", "scrolls sideways")
"""What the check must report for each."""

OPEN_ALL: Final = "document.querySelectorAll('details').forEach(each => each.open = true)"
WIDER: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models",
        nargs="*",
        default=["cnn-nano", "cnn", "cnn-large"],
        metavar="MODEL",
        help="a bundle, a pretrained model or a page",
    )
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="save what the browser shows, a folder a model")
    parser.add_argument("--tools", type=Path, metavar="DIR", help="install the tools here, and find them here again")
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None or shutil.which("npm") is None:
        sys.exit("error: chromium or npm is missing: install both, on Debian with  apt-get install chromium npm")
    with tempfile.TemporaryDirectory() as scratch:
        axe = install(given.tools or Path(scratch) / "tools")
        pages = [report(model, Path(scratch) / str(number)) for number, model in enumerate(given.models, 1)]
        prove(pages[0], Path(scratch) / "planted", chromium, axe)
        found = [
            problem
            for number, page in enumerate(pages, 1)
            for problem in problems(page, chromium, axe, given.screenshots and given.screenshots / str(number))
        ]
    for problem in found:
        print(problem)
    if found:
        sys.exit(f"error: {len(found)} problems")


def install(folder: Path) -> str:
    """Install what is missing, make playwright importable, and return the source of axe-core."""
    axe = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(folder / "python"), PLAYWRIGHT], check=True)
        subprocess.run(["npm", "install", "--silent", "--prefix", str(folder), AXE], check=True)  # noqa: S607
    sys.path.insert(0, str(folder / "python"))
    return axe.read_text(encoding="utf-8")


def report(model: str, folder: Path) -> Path:
    """The report of a model, in a folder of its own; a page is taken as it is."""
    if model.endswith(".html"):
        return Path(model).resolve()
    page = folder / f"{Path(model).name}.html"
    command = [sys.executable, "-m", "mnist_edge", "report", model, "--out", str(page), "--quiet"]
    subprocess.run(command, check=True)
    return page


def prove(page: Path, folder: Path, chromium: str, axe: str) -> None:
    """Exit unless what is planted in a copy of a page is found."""
    folder.mkdir()
    copy = folder / page.name
    content = page.read_text(encoding="utf-8")
    copy.write_text(content.replace("</h1>", f"</h1>{PLANTED}", 1), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        found = [*problems(copy, chromium, axe, None)]
    for width, theme, words in itertools.product(WIDTHS, THEMES, NOTICED):
        if not any(f"{width} px, {theme}: " in line and words in line for line in found):
            sys.exit(f"error: {width} px, {theme}: does not notice what was planted: {words}")


def problems(page: Path, chromium: str, axe: str, screenshots: Path | None) -> Iterator[str]:
    """What is wrong with a page, a line each; what was looked at is printed."""
    if screenshots:
        screenshots.mkdir(parents=True, exist_ok=True)
    if page.stat().st_size > LARGEST:
        yield f"{page.name}: {page.stat().st_size:,} bytes, more than {LARGEST:,}"
    for width in WIDTHS:
        for theme in THEMES:
            place = f"{page.name}, {width} px, {theme}"
            with opened(page, chromium, width, theme) as (tab, heard):
                tab.evaluate(OPEN_ALL)
                wider = tab.evaluate(WIDER)
                tab.evaluate(axe)
                violations = tab.evaluate("axe.run()")["violations"]
                if screenshots:
                    tab.screenshot(path=screenshots / f"{page.stem}-{width}-{theme}.png", full_page=True)
            grave = [each for each in violations if each["impact"] in GRAVE]
            print(f"{place}: {len(violations)} violations, {len(grave)} of them serious or critical")
            yield from (f"{place}: {line}" for line in heard)
            if wider > 0:
                yield f"{place}: scrolls sideways, by {wider} pixels"
            for each in violations:
                where = "; ".join(" ".join(node["target"]) for node in each["nodes"][:3])
                line = f"{place}: axe: {each['impact']}: {each['help']}: {where}"
                if each in grave:
                    yield line
                else:
                    print(line)


@contextlib.contextmanager
def opened(page: Path, chromium: str, width: int, theme: str) -> "Iterator[tuple[Any, list[str]]]":
    """The page in a browser, and what it logs or asks for."""
    from playwright.sync_api import sync_playwright  # type: ignore[import-not-found]  # installed by this script

    heard: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme, device_scale_factor=2)
        tab.on("console", lambda message: heard.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: heard.append(f"error: {error}"))
        tab.on("request", lambda request: heard.append(f"request: {request.url}"))
        tab.goto(page.as_uri())
        heard.remove(f"request: {page.as_uri()}")
        heard[:] = [each for each in heard if not each.startswith("request: data:")]
        yield tab, heard
        browser.close()


if __name__ == "__main__":
    main()
