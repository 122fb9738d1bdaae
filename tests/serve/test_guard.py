"""Who may come in, and what is asked of nobody."""

import base64

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from keyvid.serve.guard import Guard
from keyvid.serve.metrics import Metrics

TOKEN = {"authorization": "Bearer secret"}


def client_of(token: str | None, metrics: Metrics | None = None) -> TestClient:
    """A guarded application that answers 200 to all that reaches it."""
    return TestClient(Guard(PlainTextResponse("let in"), token, metrics or Metrics()))


@pytest.mark.parametrize("token", [None, "secret"])
@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://169.254.169.254/latest",
        "/gradio_api/file=https://example.org/a",
        "/GRADIO_API/file=HTTP://example.org/a",
    ],
)
def test_the_page_fetches_no_address_for_anybody(token: str | None, path: str) -> None:
    answer = client_of(token).get(path, headers=TOKEN)
    assert (answer.status_code, answer.json()) == (404, {"detail": "not found"})
    assert client_of(token).get("/gradio_api/file=/tmp/a", headers=TOKEN).text == "let in"


def test_whoever_has_no_token_learns_nothing() -> None:
    client = client_of("secret")
    for path in ("/", "/metrics", "/gradio_api/file=http://a", "/healthz/", "/readyz/x"):
        assert client.get(path).status_code == 401
    for path in ("/healthz", "/readyz"):
        assert client.get(path).text == "let in"


@pytest.mark.parametrize(
    ("header", "is_let_in"),
    [
        (b"Bearer secret", True),
        (b"bearer  secret ", True),
        (b"Basic " + base64.b64encode(b"anybody:secret"), True),
        (b"basic " + base64.b64encode(b":secret"), True),
        (b"Basic " + base64.b64encode(b"secret"), False),
        (b"Basic " + base64.b64encode(b"secret:"), False),
        (b"Basic secret", False),
        (b"Bearer secre", False),
        (b"Bearer secrets", False),
        (b"Digest secret", False),
        (b"secret", False),
        (b"", False),
    ],
)
def test_tokens(header: bytes, is_let_in: bool) -> None:
    answer = client_of("secret").get("/clips", headers={"authorization": header})
    assert (answer.status_code == 200) == is_let_in


def test_each_answer_is_counted_once() -> None:
    metrics = Metrics()
    client = client_of("secret", metrics)
    client.get("/clips")
    client.get("/clips", headers=TOKEN)
    client.get("/clips", headers=TOKEN)
    client.get("/gradio_api/file=http://a", headers=TOKEN)
    counted = [line for line in metrics.text().decode().splitlines() if "responses_total{" in line]
    assert sorted(counted) == [
        'keyvid_http_responses_total{status="200"} 2.0',
        'keyvid_http_responses_total{status="401"} 1.0',
        'keyvid_http_responses_total{status="404"} 1.0',
    ]
