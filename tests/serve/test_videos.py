"""/v1/videos, as OpenAI's own client uses it and as others post it."""

import base64
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from PIL import Image
from starlette.testclient import TestClient

from keyvid.serve import references
from keyvid.serve.limits import Limits
from tests.serve.conftest import EXAMPLES, StandIn

Serve = Callable[..., TestClient]
PICTURE, SOUND = ((EXAMPLES / f"drum.{kind}").read_bytes() for kind in ("png", "wav"))


def data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


SOUND_URL = {"audio_url": data_url("audio/wav", SOUND)}
PICTURE_URL = {"image_url": data_url("image/png", PICTURE)}


def wait_for_status(client: TestClient, path: str, status: str) -> dict[str, Any]:
    for _ in range(500):
        video: dict[str, Any] = client.get(path).json()
        if video["status"] == status:
            return video
        time.sleep(0.02)
    raise AssertionError(f"still {video}")


@pytest.fixture
def client(live: Callable[..., str]) -> Iterator[openai.OpenAI]:
    """The official one, with a token for its key."""
    with openai.OpenAI(base_url=f"{live(token='secret')}/v1", api_key="secret") as client:
        yield client


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_official_client(client: openai.OpenAI, pipeline: StandIn) -> None:
    video = client.videos.create_and_poll(
        prompt="drum",
        input_reference=("drum.png", PICTURE),
        model="tiny",
        seconds="1",  # type: ignore[arg-type] # other models make other lengths
        size="320x192",  # type: ignore[arg-type]
        extra_body={"audio_reference": json.dumps(SOUND_URL), "seed": 5, "guidance-image": 2.5},
    )
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.seconds, video.size, video.model) == ("1", "320x192", "tiny")
    assert video.expires_at - video.completed_at == 3600
    (made,) = pipeline.made
    assert (made.prompt, made.seed, made.sampling.generator.guidance_image) == ("drum", 5, 2.5)

    assert client.videos.download_content(video.id).read()[4:8] == b"ftyp"
    thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert image.size == (320, 192)

    nested = {"audio_reference": SOUND_URL}
    second = client.videos.create(prompt="", input_reference=PICTURE, extra_body=nested)
    assert [one.id for one in client.videos.list(limit=1)] == [second.id, video.id], "two pages"
    assert [one.id for one in client.videos.list(order="asc").data] == [video.id, second.id]
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError, match="may have been deleted"):
        client.videos.retrieve(video.id)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_the_client_sends_in_place_of_a_file(client: openai.OpenAI) -> None:
    with (EXAMPLES / "drum.wav").open("rb") as file, pytest.raises(openai.BadRequestError) as error:
        client.videos.create(
            prompt="", input_reference=PICTURE, extra_body={"audio_reference": file}
        )
    assert "audio_reference is <_io.BufferedReader" in str(error.value)
    assert "send a file or a data URL" in str(error.value)


@pytest.mark.parametrize("is_json", [True, False])
def test_as_others_post_it(serve: Serve, is_json: bool) -> None:
    values = {"prompt": "drum", "input_reference": PICTURE_URL, "audio_reference": SOUND_URL}
    if is_json:
        answer = serve().post("/v1/videos", json={**values, "seconds": 2, "seed": 3, "size": None})
    else:
        form = {"prompt": "drum", "audio_reference": json.dumps(SOUND_URL)}
        files = {"input_reference": ("a", PICTURE)}
        answer = serve().post("/v1/videos", data=form, files=files)
    assert answer.status_code == 200
    assert (answer.json()["object"], answer.json()["seconds"]) == ("video", "2")
    assert int(answer.headers["openai-poll-after-ms"]) >= 200


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"audio_reference": None}, 400, "there is no sound; send audio_reference"),
        ({"audio_reference": {}}, 400, "there is no sound"),
        ({"audio_reference": {"url": ""}}, 400, "audio_reference has no audio_url"),
        ({"audio_reference": "{"}, 400, "audio_reference is no JSON"),
        ({"audio_reference": "data:audio/wav;base64,!"}, 400, "no base64"),
        ({"audio_reference": data_url("audio/wav", b"x")}, 422, "the sound: "),
        ({"input_reference": "http://10.0.0.1/x.png"}, 400, "nothing is fetched from addresses"),
        ({"input_reference": "/etc/passwd"}, 400, "input_reference is /etc/passwd; send a file"),
        ({"input_reference": "x"}, 400, "such as data:image/png;base64"),
        ({"audio_reference": "x"}, 400, "such as data:audio/wav;base64"),
        ({"audio_reference": '{"a": [' + "1," * 20_000 + "1]}"}, 400, "more than 10000 values"),
        ({"audio_reference": "{" + '"a":{' * 5_000}, 400, "audio_reference is no JSON"),
        ({"fps": [{}] * 10_000}, 400, "more than 10000 values; send fewer"),
        ({"model": "sora-2"}, 400, "there is no model 'sora-2' here; this is tiny"),
        ({"size": "1280x720"}, 400, "want one of 160x96, 320x192"),
        ({"seconds": "99"}, 422, "this server makes clips of 60 s at most"),
        ({"fps": 24}, 422, "'fps': no such field"),
        ({"steps": [1]}, 422, "steps [1]: want a whole number"),
    ],
)
def test_orders_that_are_refused(
    serve: Serve, change: dict[str, Any], status: int, message: str
) -> None:
    values = {"input_reference": PICTURE_URL, "audio_reference": SOUND_URL}
    answer = serve().post("/v1/videos", json={**values, **change})
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 15, 16, 17, 100])
def test_base64_in_pieces(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "_PIECE", 12)
    content = bytes(range(length))
    text = base64.b64encode(content).decode()
    assert references._decoded(text).read() == content
    for wrong in (f"{text[:4]}==={text[4:]}", f"{text}!", f"AA=={text or 'AA=='}"):
        with pytest.raises(ValueError, match=r".*"):
            references._decoded(wrong)


@pytest.mark.parametrize("body", ["[", "[]", "null", "[" * 9_000, "[" * 100_000])
def test_bodies_that_are_none(serve: Serve, body: str) -> None:
    headers = {"content-type": "application/json"}
    answer = serve().post("/v1/videos", content=body, headers=headers)
    assert answer.status_code == 400
    assert re.search("send (an object|fewer)", answer.json()["error"]["message"])


def test_bodies_that_are_too_large(serve: Serve) -> None:
    values = {"input_reference": PICTURE_URL, "audio_reference": SOUND_URL}
    assert serve(Limits(upload_bytes=1000)).post("/v1/videos", json=values).status_code == 413


def test_failed_and_unfinished_videos(serve: Serve, pipeline: StandIn) -> None:
    client = serve()
    pipeline.may_go_on.clear()
    values = {"input_reference": PICTURE_URL, "audio_reference": SOUND_URL}
    path = f"/v1/videos/{client.post('/v1/videos', json=values).json()['id']}"
    assert pipeline.is_at_work.wait(10)
    wait_for_status(client, path, "in_progress")
    unfinished = client.get(f"{path}/content")
    assert (unfinished.status_code, unfinished.json()["error"]["type"]) == (
        404,
        "invalid_request_error",
    )
    pipeline.failure = MemoryError()
    pipeline.may_go_on.set()
    video = wait_for_status(client, path, "failed")
    assert video["error"]["code"] == "failed"
    assert "MemoryError" in video["error"]["message"]
    assert client.get("/v1/videos?limit=0").json()["error"]["message"].startswith("limit is ")
