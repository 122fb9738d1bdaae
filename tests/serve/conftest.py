"""A pipeline that makes clips at the test's command, behind a server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import EngineChoice
from keyvid.runtime.clip import Clip
from keyvid.runtime.diffusion.keyframes import uniform_keyframes
from keyvid.runtime.journal import Journal
from keyvid.runtime.media.sound import Sound
from keyvid.runtime.networks.stages import Progress
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.request import Prepared
from keyvid.serve.app import make_app
from keyvid.serve.limits import Limits
from keyvid.serve.tokens import Tokens
from tests.serve.live import listening
from tests.serve.queue import Queue, open_queue

EXAMPLES = Path(__file__).parents[2] / "examples"
NUM_STEPS = 4


class StandIn(Pipeline):
    """Checks requests as the real one does; its clips show the picture, standing still.

    Attributes:
        may_go_on: cleared, a clip stops before its last step until it is set.
        is_at_work: set while a clip is in the making.
        failure: raised in place of a clip.
        made: what the clips so far were made of.
    """

    def __init__(self) -> None:
        super().__init__(Bundle.load("tiny"), EngineChoice("openvino", "of a test"))
        self.may_go_on = Event()
        self.may_go_on.set()
        self.is_at_work = Event()
        self.failure: Exception | None = None
        self.made: list[Prepared] = []

    def make(
        self, prepared: Prepared, progress: Progress | None = None, journal: Journal | None = None
    ) -> Clip:
        inputs = prepared.inputs
        assert progress is not None
        self.is_at_work.set()
        for step in range(NUM_STEPS + 1):
            progress("generator", step, NUM_STEPS)
            while step == NUM_STEPS - 1 and not self.may_go_on.wait(0.01):
                progress("generator", step, NUM_STEPS)
        self.is_at_work.clear()
        if self.failure:
            raise self.failure
        self.made.append(prepared)
        assert isinstance(inputs.sound, Sound)
        return Clip(
            frames=np.repeat(inputs.picture[np.newaxis], inputs.num_frames, axis=0),
            fps=24,
            sound=inputs.sound,
            keyframes=uniform_keyframes(inputs.num_frames, 12),
            motion=np.linspace(0, 1, inputs.num_frames, dtype=np.float32),
            timings={"generator": 0.5},
            batches={"generator": 1},
            bundle=self.bundle.name,
            engine=self.engine.name,
            prompt=prepared.prompt,
            seed=prepared.seed,
            settings=prepared.sampling,
            remarks=prepared.remarks,
        )


@pytest.fixture
def pipeline() -> StandIn:
    """The stand-in behind `serve`."""
    return StandIn()


@pytest.fixture(scope="session")
def one_queue() -> Iterator[Queue]:
    with open_queue() as queue:
        yield queue


@pytest.fixture
def queue(one_queue: Queue, pipeline: StandIn) -> Iterator[Queue]:
    """A store that is empty, and one that makes what is put into it."""
    yield one_queue
    pipeline.may_go_on.set()
    one_queue.empty()


@pytest.fixture
def make(pipeline: StandIn, queue: Queue, tmp_path: Path) -> Callable[..., FastAPI]:
    """`make(limits, token)`: the application around the stand-in."""

    def make_it(limits: Limits | None = None, token: str | None = None) -> FastAPI:
        workshop = queue.workshop(pipeline, tmp_path / "server" / "jobs", limits)
        return make_app(workshop, Tokens.of_one(token) if token else None)

    return make_it


@pytest.fixture
def serve(pipeline: StandIn, make: Callable[..., FastAPI]) -> Iterator[Callable[..., TestClient]]:
    """`serve(limits, token)`: a client of a server that runs until the end of the test."""
    clients: list[TestClient] = []

    def start(limits: Limits | None = None, token: str | None = None) -> TestClient:
        client = TestClient(make(limits, token), "http://localhost")
        clients.append(client.__enter__())
        return client

    yield start
    pipeline.may_go_on.set()
    for client in clients:
        client.__exit__()


@pytest.fixture
def live(pipeline: StandIn, make: Callable[..., FastAPI]) -> Iterator[Callable[..., str]]:
    """`live(limits, token)`: the address of a server that listens until the end of the test."""
    with ExitStack() as stack:

        def start(limits: Limits | None = None, token: str | None = None, root: str = "") -> str:
            return stack.enter_context(listening(make(limits, token), root))

        yield start
        pipeline.may_go_on.set()


@pytest.fixture
def order() -> Callable[..., dict[str, object]]:
    """`order(image=..., audio=..., steps="2")`: what to post, the drum where nothing is given."""

    def form(**parts: object) -> dict[str, object]:
        image = parts.pop("image", (EXAMPLES / "drum.png").read_bytes())
        audio = parts.pop("audio", (EXAMPLES / "drum.wav").read_bytes())
        names = {name.replace("_", "-"): value for name, value in parts.items()}
        return {"files": {"image": ("a", image), "audio": ("b", audio)}, "data": names}

    return form
