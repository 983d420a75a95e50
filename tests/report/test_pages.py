"""The check of pages notices what it is there to notice."""

import base64
import hashlib

import pytest

from tests.pages import problems

STYLE = "p { color: red }"
DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
GOOD = f"""<!DOCTYPE html>
<html lang="en"><head>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-{DIGEST}'">
<title>x</title><style>{STYLE}</style></head><body><a href="#main">skip</a><header><h1>x</h1></header>
<nav><h2>y</h2></nav><main id="main"><h2 id="z">z</h2><h3>w</h3><section aria-labelledby="z"><img alt="a" src="data:,"/>
<svg role="img"><title>t</title><desc>d</desc><text>1</text></svg></section>
<div role="group" aria-labelledby="c" tabindex="0"><table><caption id="c">c</caption><tbody>
<tr><th scope="row">h</th><td>1</td></tr>
</tbody></table></div><pre role="region" aria-label="r" tabindex="0"></pre></main><footer></footer></body></html>"""


def test_a_good_page_has_no_problems():
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("</section>", "", "closes"),
        ("</html>", "", "stays open"),
        ('alt="a"', 'alt=""', "an image without words"),
        ('alt="a"', 'alt="a" alt="b"', "twice"),
        ('src="data:,"', 'src="x.png"', "asks for x.png"),
        ("<title>x", "<title>http://x", "an address of the network"),
        ("<h3>w</h3>", "<h4>w</h4>", "headings out of order"),
        ("<h1>x</h1>", "", "headings out of order"),
        ("</main>", "<script></script></main>", "a <script>"),
        ('id="z"', 'id="z" style="color: red"', "the attribute style"),
        ('id="z"', 'id="z" onclick="x()"', "the attribute onclick"),
        ('id="z"', 'id="main"', "2 elements have the id main"),
        ('aria-labelledby="z"', 'aria-labelledby="q"', "refers to q"),
        ('href="#main"', 'href="#q"', "refers to q"),
        ("default-src 'none'", "default-src 'self'", "no strict content security policy"),
        (f"'sha256-{DIGEST}'", "'unsafe-inline'", "no strict content security policy"),
        ("color: red", "color: blue", "the policy forbids the style sheet"),
        ("<desc>d</desc>", "", "a drawing without words"),
        ("<text>1</text>", "", "a drawing without text"),
        ("<footer></footer>", "", "not one <footer>"),
        (' lang="en"', "", "no language"),
        ('"c" tabindex="0"', '"c"', "a region that the keyboard cannot reach"),
        ('"r" tabindex="0"', '"r"', "a region that the keyboard cannot reach"),
        (' aria-labelledby="c"', "", "a region that the keyboard cannot reach or that has no name"),
        ('aria-labelledby="c"', 'aria-labelledby="gone"', "refers to gone"),
        ("</main>", '<pre role="region" aria-label="r" tabindex="0"></pre></main>', "2 regions are named r"),
        ('<caption id="c">c</caption>', "", "a table without a caption"),
        ("<desc>", '<g clip-path="url(#gone)"/><desc>', "refers to gone"),
        ("color: red", "background: url(x.png)", "the style sheet asks for something"),
        ("color: red", "@import 'x.css'", "the style sheet asks for something"),
        (' scope="row"', "", "without a scope"),
        ("</tbody>", "<tr></tr></tbody>", "cells"),
        ('<a href="#main">skip</a>', "", "no skip link"),
    ],
    ids=lambda value: value[:30],
)
def test_a_problem_is_noticed(old, new, words):
    assert old in GOOD
    found = problems(GOOD.replace(old, new))
    assert any(words in line for line in found), found
