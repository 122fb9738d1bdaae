"""The interface over HTTP, with a pipeline that stands in for the networks."""

import base64
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from starlette.testclient import TestClient

from keyvid.errors import EngineError
from keyvid.runtime.media.picture import load_image
from keyvid.serve.limits import Limits
from tests.serve.conftest import EXAMPLES, StandIn

Serve = Callable[..., TestClient]
Order = Callable[..., dict[str, Any]]
CASES = Path(__file__).parents[1] / "cases"


def wait_for(client: TestClient, url: str, *states: str) -> dict[str, Any]:
    """The job when it is in one of `states`."""
    for _ in range(500):
        job: dict[str, Any] = client.get(url).json()
        if job["state"] in states:
            return job
        time.sleep(0.02)
    raise AssertionError(f"still {job}")


def files_of(tmp_path: Path) -> list[Path]:
    """What there is of jobs."""
    return [*(tmp_path / "server" / "jobs").rglob("*")]


def test_a_clip_from_order_to_deletion(
    serve: Serve, order: Order, pipeline: StandIn, tmp_path: Path
) -> None:
    client = serve()
    answer = client.post("/clips", **order(prompt="drum", seed="3", guidance_image="2.5"))
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["links"]["self"]
    job = wait_for(client, answer.headers["location"], "done", "failed")
    assert (job["state"], job["frames"], job["error"]) == ("done", 48, "")
    assert answer.json()["ended"] is None
    assert job["created"] <= job["started"] <= job["ended"] <= job["expires"]

    clip = client.get(job["links"]["clip"])
    assert clip.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(clip.content)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 48
        assert video.streams.audio
    report = client.get(job["links"]["report"]).json()
    assert report["seed"] == 3
    assert report["settings"]["generator"]["guidance_image"] == 2.5
    assert report["inputs"]["prompt"] == "drum"
    assert report["inputs"].keys().isdisjoint({"image", "audio"}), "uploads have no names"
    assert "path" not in report["bundle"], "where the server keeps its models is its own affair"
    with Image.open(io.BytesIO(client.get(job["links"]["plot"]).content)) as plot:
        assert plot.width == 1200
    (prepared,) = pipeline.made
    assert (prepared.inputs.picture == load_image(EXAMPLES / "drum.png", 96, 160)).all()

    assert client.delete(job["links"]["self"]).status_code == 204
    assert client.get(job["links"]["clip"]).status_code == 404
    assert not files_of(tmp_path)


def test_events_tell_of_each_state(serve: Serve, order: Order, pipeline: StandIn) -> None:
    client = serve()
    pipeline.may_go_on.clear()
    links = client.post("/clips", **order()).json()["links"]
    assert pipeline.is_at_work.wait(10)
    events = []
    with client.stream("GET", links["events"]) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            kind, _, value = line.partition(": ")
            if kind == "event":
                events.append(value)
            elif kind == "data":
                job = json.loads(value)
                pipeline.may_go_on.set()
    assert events[0] == "progress"
    assert events[-1] == job["state"] == "done"


def test_a_full_queue_says_when_to_come_again(
    serve: Serve, order: Order, pipeline: StandIn
) -> None:
    client = serve(Limits(queue=2))
    pipeline.may_go_on.clear()
    first = client.post("/clips", **order()).json()
    assert pipeline.is_at_work.wait(10)
    waiting = [client.post("/clips", **order()).json() for _ in range(2)]
    assert [job["before"] for job in waiting] == [1, 2]
    refused = client.post("/clips", **order())
    assert refused.status_code == 429
    assert refused.json()["detail"].startswith("the queue has no room for more than 2 clips; try")
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert 'keyvid_refused_total{reason="queue"} 1.0' in client.get("/metrics").text
    pipeline.may_go_on.set()
    for job in [first, *waiting]:
        wait_for(client, job["links"]["self"], "done")
    assert client.post("/clips", **order()).status_code == 202, "there is room again"


def test_cancelled_jobs_leave_the_line(
    serve: Serve, order: Order, pipeline: StandIn, tmp_path: Path
) -> None:
    client = serve()
    pipeline.may_go_on.clear()
    running, queued, last = (client.post("/clips", **order()).json()["links"] for _ in range(3))
    assert pipeline.is_at_work.wait(10)
    for links in (queued, running):
        assert client.delete(links["self"]).status_code == 204
        assert client.get(links["self"]).status_code == 404
    pipeline.may_go_on.set()
    wait_for(client, last["self"], "done")
    assert len(pipeline.made) == 1
    assert len([path for path in files_of(tmp_path) if path.is_dir()]) == 1
    assert 'keyvid_clips_total{state="cancelled"} 2.0' in client.get("/metrics").text


def test_a_job_that_takes_too_long(
    serve: Serve, order: Order, pipeline: StandIn, tmp_path: Path
) -> None:
    client = serve(Limits(job_seconds=0.2))
    pipeline.may_go_on.clear()
    links = client.post("/clips", **order()).json()["links"]
    job = wait_for(client, links["self"], "failed", "done")
    assert job["error"] == "took more than 0.2 s; order fewer seconds or fewer steps"
    answer = client.get(links["clip"])
    assert answer.status_code == 409
    assert answer.json()["detail"] == f"the job is failed: {job['error']}"
    assert [path.name for path in files_of(tmp_path) if path.is_file()] == ["ended.json"]


def test_results_are_kept_for_a_while(serve: Serve, order: Order, tmp_path: Path) -> None:
    client = serve(Limits(keep_seconds=0.3))
    links = client.post("/clips", **order()).json()["links"]
    for _ in range(500):
        if client.get(links["self"]).status_code == 410:
            break
        time.sleep(0.02)
    for link in (links["self"], links["clip"], links["events"]):
        gone = client.get(link)
        assert gone.status_code == 410, "it was there"
        assert "kept long enough" in gone.json()["detail"]
    assert client.get("/clips/nonesuch").status_code == 404
    assert not files_of(tmp_path)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (EngineError("generator: NaN in step 3"), "generator: NaN in step 3"),
        (ZeroDivisionError("secret"), "unexpected ZeroDivisionError; the server's log says more"),
        (MemoryError(), "unexpected MemoryError; the server's log says more"),
    ],
)
def test_failures_stand_in_the_job(
    serve: Serve,
    order: Order,
    pipeline: StandIn,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    error: str,
) -> None:
    client = serve()
    pipeline.failure = failure
    links = client.post("/clips", **order()).json()["links"]
    assert wait_for(client, links["self"], "failed")["error"] == error
    assert (type(failure).__name__ in caplog.text) == error.startswith("unexpected")
    pipeline.failure = None
    links = client.post("/clips", **order()).json()["links"]
    wait_for(client, links["self"], "done")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", "0", "steps 0: want a whole number, 1 to 1000"),
        ("steps", "many", "steps many: want a whole number"),
        ("guidance-image", "nan", "guidance-image nan: want a finite number"),
        ("solver", "euler", "solver euler: want one of ddim, dpm"),
        ("keyframes", "0,1", "2 given; want auto, uniform or 12 ascending frame numbers"),
        ("length", "61", "length is 61.00 s, this server makes clips of 60 s at most"),
        ("length", "-1", "length is -1; expected seconds"),
        ("start", "99", "beyond the end of the sound, which lasts 2.00 s; start earlier"),
        ("seed", "-1", "seed -1"),
        ("scale", "9", "scale 9: want a whole number from 1 to 8"),
        ("cfg-batch", "7", "cfg-batch 7: want one of 1, 2, 3, 4"),
        ("fit", "stretch", "fit 'stretch': want one of crop, pad"),
        ("position", "here", "crop position is here; expected centre"),
        ("prompt", "x" * 2001, "prompt has 2001 characters"),
        ("motion", "/etc/motion.csv", "motion: the server reads no files; want the values"),
        ("keyframes", "/etc/motion.npy", "keyframes: the server reads no files; want the values"),
        ("motion", "0,1", "motion: holds 2 values; want one for each of the 48 frames"),
        ("beats", "3", "beats: 3 s is outside the clip, which lasts 2.00 s"),
        ("output", "/etc/passwd", "'output': no such field; want one of "),
    ],
)
def test_wrong_settings_are_refused_at_once(
    serve: Serve, order: Order, field: str, value: str, message: str
) -> None:
    form = order()
    form["data"] = {field: value}
    answer = serve().post("/clips", **form)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_a_long_sound_in_full(serve: Serve, order: Order, pipeline: StandIn) -> None:
    client = serve(Limits(seconds=1.0))
    answer = client.post("/clips", **order(length="full"))
    assert answer.status_code == 422
    assert "length is 2.00 s, this server makes clips of 1 s at most" in answer.json()["detail"]
    answer = client.post("/clips", **order(length="full", start="1.25"))
    assert answer.json()["frames"] == 18


def test_what_the_reader_has_to_say(serve: Serve, order: Order) -> None:
    picture = (CASES / "portrait.png").read_bytes()
    (remark,) = serve().post("/clips", **order(image=picture)).json()["remarks"]
    assert "60 % of the picture are cut off" in remark


def test_forms_that_are_none(serve: Serve, order: Order) -> None:
    client = serve()
    for body, message in (
        ({"json": {"image": "a"}}, "the body is application/json; send multipart/form-data"),
        ({"files": {"image": b"a"}}, "no file audio; send image and audio"),
        ({"files": {"x": b"", "image": b"", "audio": b""}}, "Too many files"),
        ({"data": {}, "files": {"image": b"x" * 3}, "headers": {}}, "no file audio"),
    ):
        answer = client.post("/clips", **body)
        assert answer.status_code == 400, answer.text
        assert message in answer.json()["detail"]


@pytest.mark.parametrize("is_announced", [True, False])
def test_uploads_that_are_too_large(serve: Serve, is_announced: bool) -> None:
    client = serve(Limits(upload_bytes=100_000))
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    parts = [head, *[b"x" * 10_000] * 20, b"\r\n--b--\r\n"]
    content: Any = b"".join(parts) if is_announced else iter(parts)
    answer = client.post(
        "/clips", content=content, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code == 413
    assert answer.json()["detail"] == "more than 100 kB; send less"


def test_pictures_that_are_too_large(serve: Serve, order: Order) -> None:
    client = serve(Limits(pixels=5000))
    answer = client.post("/clips", **order())
    assert answer.status_code == 422
    assert answer.json()["detail"] == "the picture: has more than 5,000 pixels; shrink it first"


def test_hostile_uploads(serve: Serve, order: Order, tmp_path: Path) -> None:
    """Damaged in any way: a clip or a line that says why not."""
    client = serve(Limits(queue=1000))
    picture, sound = ((EXAMPLES / f"drum.{kind}").read_bytes() for kind in ("png", "wav"))
    hostile = [
        {"image": b""},
        {"audio": b""},
        {"image": sound},
        {"audio": picture},
        {"image": b"\x00" * 1000},
        {"audio": b"RIFF" + b"\xff" * 1000},
        *({"image": picture[:n]} for n in (8, 40, len(picture) // 2)),
        *({"audio": sound[:n]} for n in (8, 40, 43)),
        *({"image": (CASES / name).read_bytes()} for name in ("noeoi.jpg", "exif-xres-nan.jpg")),
        *({"audio": (CASES / name).read_bytes()} for name in ("hurt-zero.m4a", "gap.mkv")),
    ]
    for parts in hostile:
        answer = client.post("/clips", **order(**parts))
        if answer.status_code == 202:
            job = wait_for(client, answer.headers["location"], "done", "failed")
            assert job["state"] == "done", parts
            assert client.delete(answer.headers["location"]).status_code == 204
        else:
            assert answer.status_code == 422
            detail = answer.json()["detail"]
            assert detail.startswith(("the picture: ", "the sound: "))
            assert "\n" not in detail
            assert "<_io" not in detail
    assert not files_of(tmp_path)


def test_names_of_uploads_are_nobodys_business(serve: Serve, order: Order, tmp_path: Path) -> None:
    form = order()
    form["files"] = {n: ("../../../evil.sh", b) for n, (_, b) in form["files"].items()}
    client = serve()
    answer = client.post("/clips", **form)
    wait_for(client, answer.headers["location"], "done")
    names = {path.name for path in files_of(tmp_path) if path.is_file()}
    assert names == {"clip.mp4", "report.json", "plot.png", "ended.json"}
    assert not [*tmp_path.rglob("*evil*")]


def test_a_token_where_it_is_asked_for(serve: Serve, order: Order) -> None:
    client = serve(token="käse")
    basic = base64.b64encode("anybody:käse".encode()).decode()
    for header in ("Bearer käse", f"Basic {basic}"):
        allowed = {"authorization": header.encode()}
        assert client.get("/metrics", headers=allowed).status_code == 200
    for header in ("", "Bearer", "Bearer kase", "Basic !", "Basic a2FzZQ==", "Digest käse"):
        headers = {"authorization": header.encode()}
        for method, url in (("GET", "/metrics"), ("POST", "/clips"), ("GET", "/docs")):
            answer = client.request(method, url, headers=headers)
            assert answer.status_code == 401
            assert "Basic" in answer.headers["www-authenticate"]
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_the_interface_describes_itself(serve: Serve) -> None:
    description = serve().get("/openapi.json").json()
    post = description["paths"]["/clips"]["post"]
    form = post["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"image", "audio", "prompt", "length", "guidance-image"} <= set(form["properties"])
    assert set(post["responses"]) >= {"202", "400", "401", "413", "422", "429", "503"}
    assert description["components"]["schemas"]["JobAnswer"]["examples"][0]["state"] == "running"


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=abc", "limit is 'abc'; want a whole number"),
        ("limit=1.5", "limit is '1.5'; want a whole number"),
        ("limit=", "limit is ''; want a whole number"),
        ("limit=" + "9" * 5000, f"limit is '{'9' * 40}...'; want a smaller number"),
        ("limit=0", "limit is '0'; want 1 at least"),
        ("limit=%0a101", r"limit is '\n101'; want 100 at most"),
        ("order=up", "order is 'up'; want 'asc' or 'desc'"),
    ],
)
def test_wrong_queries_are_a_line_of_ours(serve: Serve, query: str, detail: str) -> None:
    answer = serve().get(f"/v1/videos?{query}")
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, detail)


def test_a_page_after_a_job_that_is_gone_is_not_the_end(serve: Serve) -> None:
    message = "after is no job that is known, or no longer; begin again without it"
    client = serve()
    for url in ("/clips?after=gone", "/v1/videos?after=gone", "/v1/videos?after="):
        answer = client.get(url)
        said = answer.json()
        assert (answer.status_code, said.get("detail") or said["error"]["message"]) == (
            404,
            message,
        )


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        ("", "is ''; want 1 character at least"),
        ("k" * 256, f"is '{'k' * 40}...'; want 255 characters at most"),
        ("a b", "is 'a b'; want visible characters of ASCII"),
    ],
)
def test_wrong_keys_are_a_line_of_ours(serve: Serve, order: Order, key: str, detail: str) -> None:
    answer = serve().post("/clips", **order(), headers={"idempotency-key": key})
    assert (answer.status_code, answer.json()["detail"]) == (422, f"idempotency-key {detail}")
