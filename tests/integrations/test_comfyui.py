"""The nodes for ComfyUI: their shape, what they give, progress, Cancel, and a server."""

import asyncio
import json
import sys
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from keyvid.runtime.pipeline import Pipeline
from tests.integrations.comfy import FOLDER, NAME, CancelledError, Comfy, install
from tests.verify.made import made_clip

pytest.importorskip("requests")

RATE = 16_000


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> tuple[Comfy, ModuleType]:
    """ComfyUI's stand-in, and the nodes."""
    return install(monkeypatch)


@pytest.fixture
def comfy(loaded: tuple[Comfy, ModuleType]) -> Comfy:
    """What happens in ComfyUI."""
    return loaded[0]


@pytest.fixture
def nodes(loaded: tuple[Comfy, ModuleType]) -> dict[str, Any]:
    """The nodes by their ids."""
    extension = asyncio.run(loaded[1].comfy_entrypoint())
    found = asyncio.run(extension.get_node_list())
    return {node.define_schema().node_id: node for node in found}


def inputs(**others: Any) -> dict[str, Any]:
    """What a workflow gives a node."""
    wave = 0.5 * torch.sin(torch.arange(2 * RATE) * 0.3).reshape(1, 1, -1)
    return {
        "image": torch.linspace(0, 1, 2 * 72 * 120 * 3).reshape(2, 72, 120, 3),
        "audio": {"waveform": wave, "sample_rate": RATE},
        "prompt": "",
        "seed": 0,
        "quality": "fast",
        "steps": 0,
        "length": "",
        **others,
    }


def test_the_schemas(nodes: dict[str, Any]) -> None:
    assert set(nodes) == {"KeyVIDAnimate", "KeyVIDAnimateOnServer"}
    for node in nodes.values():
        schema = node.define_schema()
        types = [port.type for port in schema.outputs]
        assert types == ["VIDEO", "STRING", "STRING", "STRING"]
        needed = {p.id for p in schema.inputs if not p.about.get("optional")}
        assert needed - {"bundle", "engine", "server", "timeout"} == inputs().keys()


def test_the_example_fits_the_schema(nodes: dict[str, Any]) -> None:
    example = json.loads((FOLDER / "example.json").read_text())
    (step,) = [one for one in example.values() if one["class_type"].startswith("KeyVID")]
    schema = nodes[step["class_type"]].define_schema()
    known = {port.id: port for port in schema.inputs}
    assert step["inputs"].keys() <= known.keys()
    assert {n for n, p in known.items() if not p.about.get("optional")} <= step["inputs"].keys()


def test_what_the_registry_wants() -> None:
    content = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    project, comfy = content["project"], content["tool"]["comfy"]
    assert {"name", "version", "description", "license"} <= project.keys()
    assert "Repository" in project["urls"]
    assert {"PublisherId", "DisplayName"} <= comfy.keys()
    asked = (FOLDER / "requirements.txt").read_text().split()
    assert asked == project["dependencies"]


def test_engines_and_qualities_are_those_of_keyvid(loaded: tuple[Comfy, ModuleType]) -> None:
    from typing import get_args

    from keyvid.engines.spec import ENGINES
    from keyvid.sampling import Quality

    module = sys.modules[f"{NAME}.nodes"]
    assert {*module.ENGINES} - {"auto"} <= {*ENGINES}
    assert {*module.QUALITIES} == {*get_args(Quality)}


class FakePipeline:
    """Makes a clip without networks, and reports steps as one with them does."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.bundle = SimpleNamespace(name="fake", weights="random", sources={}, licences={})
        self.is_closed = False

    def prepare(self, request: Any) -> Any:
        self.requests.append(request)
        return request

    def make(self, prepared: Any, progress: Any) -> Any:
        for stage in ("generator", "interpolator", "vae_decoder"):
            for done in range(4):
                progress(stage, done, 3)
        return made_clip()

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[FakePipeline]:
    """Those that were loaded."""
    made: list[FakePipeline] = []

    def load(bundle: str, engine: str) -> FakePipeline:
        made.append(FakePipeline())
        return made[-1]

    monkeypatch.setattr(Pipeline, "load", load)
    return made


@pytest.fixture
def _no_report(loaded: tuple[Comfy, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pipeline without a bundle nothing is told but the clip's curve."""

    def tell(clip: Any, *_: object, **__: object) -> dict[str, Any]:
        return {"keyframes": clip.keyframes.tolist(), "motion": clip.motion.tolist()}

    __import__(f"{NAME}.making")
    monkeypatch.setattr(sys.modules[f"{NAME}.making"], "make_report", tell)


@pytest.mark.usefixtures("_no_report")
def test_a_clip_in_this_process(
    nodes: dict[str, Any], comfy: Comfy, pipelines: list[FakePipeline]
) -> None:
    node = nodes["KeyVIDAnimate"]
    end = torch.zeros(1, 8, 8, 4)
    given = inputs(prompt="a bar", motion="0,1", keyframes="uniform", end=end)
    video, motion, keyframes, report = node.execute(bundle="tiny", engine="auto", **given)
    assert video.file.read()[4:8] == b"ftyp"
    assert keyframes == "0,8,16"
    assert motion.split(",") == ["0"] * 24
    assert json.loads(report)["keyframes"] == [0, 8, 16]

    (request,) = pipelines[0].requests
    assert request.image.dtype == np.uint8
    assert request.image.shape == (72, 120, 3)
    assert request.image[0, 0, 0] == 0
    samples, rate = request.audio
    assert (samples.shape, samples.dtype, rate) == ((2 * RATE, 1), np.float32, RATE)
    assert (request.prompt, request.motion, request.keyframes) == ("a bar", "0,1", "uniform")
    assert (request.end == 255).all(), "what is transparent is white"
    assert request.settings.quality == "fast"
    assert request.settings.steps is None, "0 keeps those of the quality"

    assert comfy.shown == sorted(comfy.shown)
    assert comfy.shown[-1] == 1.0

    node.execute(bundle="tiny", engine="auto", **inputs(steps=3, length="full"))
    assert len(pipelines) == 1, "the networks stay open"
    assert pipelines[0].requests[1].length == "full"
    node.execute(bundle="other", engine="auto", **inputs())
    assert pipelines[0].is_closed


@pytest.mark.usefixtures("_no_report")
def test_cancel(nodes: dict[str, Any], comfy: Comfy, pipelines: list[FakePipeline]) -> None:
    comfy.cancel_at = 0.3
    with pytest.raises(CancelledError):
        nodes["KeyVIDAnimate"].execute(bundle="tiny", engine="auto", **inputs())
    assert 0.3 <= comfy.shown[-1] < 0.5
    comfy.cancel_at = 2.0
    nodes["KeyVIDAnimate"].execute(bundle="tiny", engine="auto", **inputs())


@pytest.mark.parametrize(
    ("name", "value"),
    [("image", torch.zeros(72, 120, 3)), ("audio", {"waveform": torch.zeros(9), "sample_rate": 1})],
)
def test_other_tensors_are_refused(name: str, value: Any, nodes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, "):
        nodes["KeyVIDAnimate"].execute(bundle="tiny", engine="auto", **inputs(**{name: value}))


class Server(BaseHTTPRequestHandler):
    """Answers as keyvid-serve does; a clip is done when it was asked for three times."""

    asked: list[tuple[str, str]]
    body: bytes
    failure: str

    def log_message(self, *_: object) -> None: ...

    def _answer(self, content: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.asked.append(("POST", self.path))
        type(self).body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer secret":
            self._answer(b'{"detail": "want the token"}', 401)
            return
        self._answer(b'{"id": "a1"}', 202)

    def do_GET(self) -> None:
        self.asked.append(("GET", self.path))
        looks = self.asked.count(("GET", "/clips/a1"))
        if self.path.endswith("clip.mp4"):
            video = BytesIO()
            made_clip().save(video)
            self._answer(video.getvalue())
        elif self.path.endswith("report.json"):
            self._answer(b'{"keyframes": [0, 4], "motion": [0.5, 0.25]}')
        else:
            state = "done" if looks > 2 else "running"
            progress = {"stage": "generator", "step": looks, "num_steps": 3}
            progress |= {"segment": 0, "num_segments": 1}
            if self.failure and looks > 1:
                state = "failed"
            answer = {"id": "a1", "state": state, "error": self.failure, "progress": progress}
            self._answer(json.dumps(answer).encode())

    def do_DELETE(self) -> None:
        self.asked.append(("DELETE", self.path))
        self._answer(b"", 204)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, loaded: object) -> Iterator[type[Server]]:
    """A server at `address`."""
    kind = type("Asked", (Server,), {"asked": [], "body": b"", "failure": "", "address": ""})
    served = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    kind.address = f"http://127.0.0.1:{served.server_address[1]}/"  # type: ignore[attr-defined]
    thread = Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("KEYVID_TOKEN", "secret")
    __import__(f"{NAME}.server")
    monkeypatch.setattr(sys.modules[f"{NAME}.server"], "_LOOK_EVERY_SECONDS", 0.01)
    yield kind
    served.shutdown()
    thread.join()
    served.server_close()


def ask(nodes: dict[str, Any], server: Any, **others: Any) -> Any:
    """What the node gives that asks `server`."""
    given = inputs(**others)
    return nodes["KeyVIDAnimateOnServer"].execute(server=server.address, timeout=20.0, **given)


def test_a_clip_of_a_server(nodes: dict[str, Any], comfy: Comfy, server: Any) -> None:
    image = inputs()["image"]
    video, motion, keyframes, _ = ask(nodes, server, prompt="a bar", steps=3, end=image)
    assert video.file.read()[4:8] == b"ftyp"
    assert (motion, keyframes) == ("0.5,0.25", "0,4")
    for part in (b'name="image"', b'name="audio"', b"a bar", b'name="steps"', b'name="end"'):
        assert part in server.body
    assert server.asked[-1] == ("DELETE", "/clips/a1")
    assert comfy.shown


def test_cancel_on_a_server(nodes: dict[str, Any], comfy: Comfy, server: Any) -> None:
    comfy.cancel_at = 0.0
    with pytest.raises(CancelledError):
        ask(nodes, server)
    assert server.asked[-1] == ("DELETE", "/clips/a1")


def test_what_the_server_says_is_told(
    nodes: dict[str, Any], server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.failure = "took more than 600 s"
    with pytest.raises(RuntimeError, match="the clip is failed: took more than 600 s"):
        ask(nodes, server)
    with pytest.raises(RuntimeError, match="takes no other last frame"):
        ask(nodes, server, end=torch.zeros(1, 72, 120, 3))
    monkeypatch.setenv("KEYVID_TOKEN", "")
    with pytest.raises(RuntimeError, match="401: want the token"):
        ask(nodes, server)
    server.address = "http://127.0.0.1:9/"
    with pytest.raises(RuntimeError, match="cannot be reached"):
        ask(nodes, server)
