"""A hundred clips over engines, qualities, containers and sizes; a hundred single changes."""

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from keyvid import Clip, Pipeline, Settings
from keyvid.bundle.manifest import Bundle, find_bundle, write_manifest
from keyvid.bundle.specs import FileSpec
from keyvid.runtime.request import Prepared
from keyvid.verify.clip import ClipFile
from keyvid.verify.inspection import inspect_clip
from keyvid.verify.remaking import prepare_again, remake
from keyvid.verify.verification import AtHand
from tests.verify.changes import CHANGES, apply, found
from tests.verify.test_remaking import forge

EXAMPLES = Path(__file__).parents[2] / "examples"
ENGINES = ("onnxruntime", "openvino")
QUALITIES = ("exact", "balanced", "fast")
NAMES = ("ball", "drum")
SUFFIXES = (".mp4", ".webm", ".webp")
ENLARGED = ((1, "lanczos"), (2, "lanczos"), (2, "nearest"))

pytestmark = pytest.mark.slow


class Remembering:
    """A pipeline that makes a clip once, and then has it for other files of the same clip."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._made: dict[tuple[object, ...], Clip] = {}

    def make(self, prepared: Prepared, progress: object = None) -> Clip:
        key = (prepared.seed, prepared.sampling)
        if key not in self._made:
            self._made[key] = self.pipeline.make(prepared)
        return self._made[key]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str, str]]:
    """108 files of 12 clips of few steps, the engine and the example of each."""
    folder, files = tmp_path_factory.mktemp("many"), []
    for engine in ENGINES:
        with Pipeline.load(engine=engine) as pipeline:
            for (seed, name), quality in product(enumerate(NAMES), QUALITIES):
                inputs = EXAMPLES / f"{name}.png", EXAMPLES / f"{name}.wav"
                few = Settings(quality=quality, steps=2)  # type: ignore[arg-type]
                clip = pipeline(*inputs, prompt=name, seed=seed, settings=few)
                for suffix, (scale, how) in product(SUFFIXES, ENLARGED):
                    path = folder / f"{engine}-{name}-{quality}-{scale}-{how}{suffix}"
                    clip.save(path, scale=scale, enlargement=how)  # type: ignore[arg-type]
                    files.append((path, engine, name))
    return files


def test_a_hundred_clips(clips: list[tuple[Path, str, str]]) -> None:
    assert len(clips) == 108
    texts: Counter[str] = Counter()
    for engine in ENGINES:
        with Pipeline.load(engine=engine) as pipeline:
            again = Remembering(pipeline)
            for path, _, name in (one for one in clips if one[1] == engine):
                clip = ClipFile.read(path)
                receipt, findings = inspect_clip(clip, clip.receipt)
                assert receipt is not None
                inputs = EXAMPLES / f"{name}.png", EXAMPLES / f"{name}.wav"
                prepared = prepare_again(pipeline, receipt.making, *inputs)
                findings += remake(clip, receipt, again, prepared)  # type: ignore[arg-type]
                assert {one.verdict for one in findings} == {"good"}, path
                texts[findings[-1].text] += 1
    assert texts == {"same bytes": 108}


def test_a_hundred_changes(clips: list[tuple[Path, str, str]], tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    order = random.permutation(len(clips))
    wanted = [*CHANGES] * 13
    done: Counter[str] = Counter()
    for number, change in enumerate(wanted):
        path = clips[order[number % len(clips)]][0]
        if change.part == "sound" and path.suffix == ".webp":
            path = path.with_suffix(".webm")
        target = tmp_path / f"changed{path.suffix}"
        words = apply(change, path, target, random)
        findings = found(target)
        assert findings[change.part].verdict == change.verdict, (path, change.name)
        assert words in findings[change.part].text, (path, change.name)
        done[change.name] += 1
    assert sum(done.values()) == 91


@pytest.mark.parametrize("number", range(6))
def test_other_weights(number: int, clips: list[tuple[Path, str, str]], tmp_path: Path) -> None:
    random = np.random.default_rng(number)
    copytree(find_bundle("tiny"), tmp_path / "other")
    weights = sorted((tmp_path / "other").glob("*.safetensors"))
    path = weights[number % len(weights)]
    content = bytearray(path.read_bytes())
    content[-1 - int(random.integers(len(content) // 2))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)
    if number % 2:
        bundle = Bundle.load(tmp_path / "other", verify=False)
        files = {**bundle.files, path.name: FileSpec.of(path)}
        write_manifest(tmp_path / "other", replace(bundle, files=files))
    findings = found(clips[number][0], AtHand(bundle=str(tmp_path / "other")))
    assert findings["bundle"].verdict == "bad"
    assert path.name in findings["bundle"].text


@pytest.mark.parametrize("number", range(3))
def test_other_seeds(number: int, clips: list[tuple[Path, str, str]], tmp_path: Path) -> None:
    path, _, name = clips[number * 9]
    forge(path, tmp_path / "forged.mp4", seed=10 + number)
    inputs = AtHand(EXAMPLES / f"{name}.png", EXAMPLES / f"{name}.wav")
    findings = found(tmp_path / "forged.mp4", inputs)
    assert findings["receipt"].verdict == "good"
    assert "generator 1" in findings["stages"].text
    assert findings["again"].verdict == "bad"
