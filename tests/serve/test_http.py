"""HTTP as HTTP: methods, conditions, paths below a proxy."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.serve.conftest import StandIn
from tests.serve.test_app import wait_for

Serve = Callable[..., TestClient]
Order = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/clips", "GET, HEAD, POST"),
        ("POST", "/clips/x", "DELETE, GET, HEAD"),
        ("PATCH", "/healthz", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("OPTIONS", "/static/main.js", "GET, HEAD"),
    ],
)
def test_wrong_methods_are_told_the_right_ones(
    serve: Serve, method: str, path: str, allowed: str
) -> None:
    answer = serve().request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


def test_head_is_get_without_a_body(serve: Serve, order: Order) -> None:
    client = serve()
    links = client.post("/clips", **order()).json()["links"]
    wait_for(client, links["self"], "done")
    for path in ("/", "/docs", "/model", "/metrics", "/healthz", *links.values(), "/clips/none"):
        get, head = client.get(path), client.head(path)
        assert head.content == b""
        assert head.status_code == get.status_code
        assert head.headers["content-type"] == get.headers["content-type"]
        if path != "/metrics" and "content-length" in get.headers:
            assert head.headers["content-length"] == get.headers["content-length"]


def test_head_does_not_wait_for_the_end_of_events(
    live: Callable[..., str], order: Order, pipeline: StandIn
) -> None:
    pipeline.may_go_on.clear()
    url = live()
    job = httpx2.post(f"{url}/clips", **order()).json()
    answer = httpx2.head(url + job["links"]["events"], timeout=5)
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_a_file_is_not_sent_again_to_who_has_it(serve: Serve, order: Order) -> None:
    client = serve()
    links = client.post("/clips", **order()).json()["links"]
    wait_for(client, links["self"], "done")
    for path in (links["clip"], links["plot"], "/static/main.js", "/examples/drum.png"):
        etag = client.get(path).headers["etag"]
        for known in (etag, f'"other", W/{etag}', "*"):
            again = client.get(path, headers={"if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
        assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    part = client.get(links["clip"], headers={"range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")


def test_below_a_path_of_a_proxy(live: Callable[..., str], order: Order) -> None:
    url = live(root="/keyvid")  # as a proxy asks that has taken /keyvid away
    answer = httpx2.post(f"{url}/clips", **order())
    links = answer.json()["links"]
    assert all(link.startswith("/keyvid/clips/") for link in links.values())
    assert answer.headers["location"] == links["self"]
    assert httpx2.get(url + links["self"].removeprefix("/keyvid")).status_code == 200
    assert httpx2.get(f"{url}/examples").json()[0]["image"].startswith("/keyvid/examples/")
    assert httpx2.get(f"{url}/openapi.json").json()["servers"] == [{"url": "/keyvid"}]
    assert httpx2.get(f"{url}/healthz").status_code == 200


def test_the_form_says_what_may_stand_in_it(serve: Serve) -> None:
    description = serve().get("/openapi.json").json()
    body = description["paths"]["/clips"]["post"]["requestBody"]
    fields = body["content"]["multipart/form-data"]["schema"]["properties"]
    assert fields["steps"] | {"minimum": 1, "maximum": 1000, "default": 6} == fields["steps"]
    assert fields["interpolator-steps"]["default"] == 3
    assert fields["quality"]["enum"] == ["exact", "fast", "balanced"]
    assert fields["cfg-batch"]["enum"] == [1, 2, 3, 4]
    assert json.dumps(description), "with finite numbers only"
