"""The handlers of docs/serving.md, behind the test clients of their frameworks."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.blocks import blocks_of

ROOT = Path(__file__).parents[1]
PICTURE = (ROOT / "docs" / "seven.jpg").read_bytes()


def app_of(framework: str):
    (block,) = [each for each in blocks_of(ROOT / "docs" / "serving.md", ROOT) if each.marks.get("needs") == framework]
    names: dict = {"__name__": "app"}
    exec(compile(block.text, block.at(), "exec"), names)
    return names["app"]


def check(post) -> None:
    """Assert what is answered to a picture, a blank body and a body that is no picture."""
    status, answer = post(PICTURE)
    assert (status, answer["label"], answer["digits"]) == (200, "7", 1)
    assert 0.99 < answer["probability"] <= 1
    for body in (b"", b"no picture", PICTURE[:3000]):
        status, answer = post(body)
        assert 400 <= status < 500, (body[:10], status)
        assert answer


def test_the_flask_handler():
    pytest.importorskip("flask")
    client = app_of("flask").test_client()

    def post(body):
        response = client.post("/predict", data=body, content_type="image/jpeg")
        return response.status_code, response.get_json()

    check(post)
    assert client.post("/predict", data=bytes(10_000_001)).status_code == 413


def test_the_fastapi_handler():
    pytest.importorskip("fastapi")
    app = app_of("fastapi")
    check(lambda body: asyncio.run(post_to_asgi(app, body)))


async def post_to_asgi(app, body):
    """Post a body to /predict as a server would (asgi.readthedocs.io): FastAPI's test client needs more packages."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/predict",
        "raw_path": b"/predict",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"image/jpeg")],
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))
