"""The report in Chromium, where that is installed: not in CI. `scripts/check_report.py` looks closer, with axe-core."""

import re
import shutil
import subprocess

import pytest

from tests.helpers import cli_in_process, subset, write_idx

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which CI has not")

PHONE = 390

FRAME = f"""<!DOCTYPE html><p id="told"></p>
<iframe src="page.html" width="{PHONE}" height="800" style="border: 0"></iframe>
<script>addEventListener("message", event => {{ document.getElementById("told").textContent = event.data }})</script>"""

TELLS = """<script>addEventListener("load", () => {
  const page = document.documentElement
  const box = each => each.getBoundingClientRect()
  parent.postMessage(`wider ${page.scrollWidth - page.clientWidth} `
    + `ground ${getComputedStyle(document.body).backgroundColor} `
    + `plots ${[...document.querySelectorAll("svg")].filter(each => box(each).width > 250).length}`, "*")
})</script></body>"""


@pytest.fixture(scope="module")
def content(mnist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    data = write_idx(folder / "mnist", subset(mnist, 20, 500))
    result = cli_in_process("report", "cnn-nano", "--data", data, "--out", folder / "page.html")
    assert result.returncode == 0, result.stderr.decode()
    return (folder / "page.html").read_text(encoding="utf-8")


def opened(page, *options):
    """What Chromium makes of a page, and what it logs."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    started = [*command, f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    result = subprocess.run(
        [*started, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return result.stdout, re.findall(r"CONSOLE.*", result.stderr)


@needs_chromium
def test_a_browser_has_nothing_to_say(content, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(content, encoding="utf-8")
    shown, logged = opened(page)
    assert "<h1>cnn-nano: model report</h1>" in shown
    assert logged == []
    page.write_text(content.replace("<h1>", '<h1 style="color: red">'), encoding="utf-8")
    _, logged = opened(page)
    assert len(logged) == 1
    assert "Content Security Policy" in logged[0]


@needs_chromium
@pytest.mark.parametrize(("theme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(21, 24, 28)")])
def test_it_fits_a_telephone(content, tmp_path, theme, ground):
    assert "<details>" in content
    telling = (
        content.replace("<details>", "<details open>").replace("Content-Security-Policy", "X").replace("</body>", TELLS)
    )
    (tmp_path / "page.html").write_text(telling, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME, encoding="utf-8")
    shown, _ = opened(tmp_path / "frame.html", f"--blink-settings=preferredColorScheme={int(theme == 'light')}")
    (told,) = re.findall(r'<p id="told">(.*?)</p>', shown)
    assert told == f"wider 0 ground {ground} plots 3"
    wide = telling.replace("</h1>", f"</h1><pre>{'x' * 200}</pre>").replace("pre { overflow-x: auto;", "pre {")
    (tmp_path / "page.html").write_text(wide, encoding="utf-8")
    shown, _ = opened(tmp_path / "frame.html")
    assert re.search(r"wider [1-9]", shown)
