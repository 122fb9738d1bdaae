"""What the server writes down of each request: numbers, and a line that holds one line."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from keyvid.serve import logbook

Serve = Callable[..., TestClient]
Order = Callable[..., dict[str, Any]]


def test_requests_are_counted_by_route(serve: Serve, order: Order) -> None:
    client = serve()
    job = client.post("/clips", **order()).json()
    for path in (job["links"]["self"], "/clips/a", "/clips/b", "/static/main.js", "/nowhere/c"):
        client.get(path)
        client.head(path)
    client.request("ODD", "/clips")
    client.get("/", headers={"host": "evil.example"})
    text = client.get("/metrics").text
    counted = {line for line in text.splitlines() if line.startswith("keyvid_http_requests_total")}
    ways = [
        ("POST", "/clips", 202, 1),
        ("GET", "/clips/{job_id}", 200, 1),
        ("HEAD", "/clips/{job_id}", 200, 1),
        ("GET", "/clips/{job_id}", 404, 2),
        ("HEAD", "/clips/{job_id}", 404, 2),
        ("GET", "/static/{name}", 200, 1),
        ("HEAD", "/static/{name}", 200, 1),
        ("GET", "none", 404, 1),
        ("HEAD", "none", 404, 1),
        ("other", "/clips", 405, 1),
        ("GET", "none", 421, 1),
    ]
    assert counted == {
        f'keyvid_http_requests_total{{method="{method}",route="{route}",status="{status}"}} '
        f"{times:.1f}"
        for method, route, status, times in ways
    }
    assert 'keyvid_http_request_seconds_count{route="/clips"} 2.0' in text


def test_numbers_of_process_disk_and_versions(serve: Serve) -> None:
    client = serve()
    client.app.state.workshop.metrics.watch_disk("/")  # type: ignore[attr-defined]
    text = client.get("/metrics").text
    for name in (
        "process_resident_memory_bytes",
        "process_open_fds",
        "python_gc_collections_total",
        "keyvid_disk_free_bytes",
        "keyvid_queue_seconds_bucket",
        'keyvid_build_info{av="',
    ):
        assert f"\n{name}" in text


def line_of(log_format: logbook.LogFormat, *args: Any, **fields: Any) -> str:
    """The line that comes of a record."""
    logger = logging.getLogger("keyvid")
    handler = logging.Handler()
    logger.addHandler(handler)
    try:
        logbook.begin(log_format)
        assert handler.formatter
        record = logger.makeRecord("keyvid", logging.INFO, "", 0, *args)
        record.fields = fields
        return handler.formatter.format(record)
    finally:
        logger.removeHandler(handler)
        logging.getLogger("uvicorn").handlers = []


@pytest.mark.security
def test_nobody_writes_lines_of_their_own() -> None:
    line = line_of("text", "request", (), None, path="/a\nb\x1b[2J c=d", status=404, seconds=0.25)
    time, _, rest = line.partition(" ")
    assert time.endswith("Z")
    assert rest == r'request path="/a\nb\u001b[2J c=d" status=404 seconds=0.250'
    line = line_of("json", "say %s", ("a\nb",), None, path='"\n')
    assert "\n" not in line
    said = json.loads(line)
    assert (said["event"], said["path"], said["level"]) == ("say a\nb", '"\n', "info")


def test_tracebacks_are_fields() -> None:
    try:
        raise ValueError("so")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    line = json.loads(line_of("json", "failed", (), info))
    assert "ValueError: so" in line["traceback"]
