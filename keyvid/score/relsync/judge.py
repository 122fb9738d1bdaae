"""The judge of a bundle, open: how well sounds and frames fit."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keyvid.bundle.manifest import MANIFEST, Bundle
from keyvid.bundle.specs import TensorSpec
from keyvid.engines.engine import AUTO, Engine, choose_engine, open_engine
from keyvid.errors import BundleError, EngineError
from keyvid.runtime.mel import SAMPLE_RATE, log_mel
from keyvid.score.relsync.excerpts import Span
from keyvid.score.relsync.pixels import prepare_frames

_STAGES = ("avsync_audio", "avsync_video", "avsync_head")
_MAKE_ONE = "make one with keyvid-export --preset avsync"


class Judge:
    """A judge's networks; a graph is opened when it is needed first.

    Attributes:
        engine: name of the engine that runs it.
        span: what it is shown of a film.
    """

    def __init__(self, bundle: Bundle, engine: str = AUTO, threads: int | None = None) -> None:
        """Open nothing yet, but refuse what cannot be used.

        Raises:
            BundleError: `bundle` holds no judge.
            EngineError: the engine cannot be used.
        """
        _check_judge(bundle)
        self.engine = choose_engine(engine, bundle).name
        self.span = Span(bundle.dimensions.frames, bundle.dimensions.fps)
        self._bundle = bundle
        self._threads = threads
        self._open: dict[tuple[str, int], Engine] = {}

    def hear(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        """What happens in sounds: each (n,) mono at 16 kHz, to (N, 512)."""
        size = self._bundle.dimensions
        mels = [log_mel(waveform, size.mel_bins, size.mel_frames) for waveform in waveforms]
        return self._run("avsync_audio", mel=np.stack(mels)[:, None])

    def look(self, films: Sequence[np.ndarray]) -> np.ndarray:
        """What happens in frames: each (F, H, W, 3) uint8, to (N, 512)."""
        size = self._bundle.dimensions
        prepared = [prepare_frames(frames, size.height, size.width) for frames in films]
        return self._run("avsync_video", video=np.stack(prepared))

    def score(self, audio: np.ndarray, video: np.ndarray) -> np.ndarray:
        """How well they fit, on any scale: (N, 512) of `hear` and of `look` to (N,)."""
        return self._run("avsync_head", audio_embedding=audio, video_embedding=video)[:, 0]

    def close(self) -> None:
        """Free what is open."""
        for engine in self._open.values():
            engine.close()
        self._open.clear()

    def _run(self, stage: str, **rows: np.ndarray) -> np.ndarray:
        """The output of a stage for each row, in calls of as many as its graphs take.

        Raises:
            EngineError: it holds NaN or infinity.
        """
        batches = self._bundle.branches(stage)
        total, outputs, start = len(next(iter(rows.values()))), [], 0
        while start < total:
            left = total - start
            batch = max((size for size in batches if size <= left), default=batches[0])
            index = np.arange(start, start + batch).clip(max=total - 1)
            (output,) = self._engine(stage, batch)(
                **{n: x[index] for n, x in rows.items()}
            ).values()
            outputs.append(output[:left])
            start += batch
        values = np.concatenate(outputs)
        if not np.isfinite(values).all():
            raise EngineError(
                f"{stage}: NaN or infinity with engine {self.engine}; try another engine or a "
                "float32 bundle"
            )
        return values

    def _engine(self, stage: str, batch: int) -> Engine:
        if (stage, batch) not in self._open:
            self._open[stage, batch] = open_engine(
                self._bundle, stage, engine=self.engine, branches=batch, threads=self._threads
            )
        return self._open[stage, batch]


def judge_facts(judge: Judge, bundle: Bundle) -> dict[str, Any]:
    """Which judge it is and what it is shown, as JSON values."""
    weights = {n: f.sha256 for n, f in bundle.files.items() if n.endswith(".safetensors")}
    return {
        "bundle": bundle.name,
        "weights": bundle.weights,
        "files": weights,
        "engine": judge.engine,
        "frames": judge.span.num_frames,
        "fps": judge.span.fps,
    }


def _check_judge(bundle: Bundle) -> None:
    """Refuse a bundle without the stages of a judge, or with other tensors than it has."""
    if missing := [name for name in _STAGES if name not in bundle.stages]:
        raise BundleError(f"{bundle.path}: holds no judge ({missing[0]} is missing); {_MAKE_ONE}")
    size = bundle.dimensions
    if size.sample_rate != SAMPLE_RATE:
        raise BundleError(
            f"{bundle.path / MANIFEST}: sample_rate is {size.sample_rate}, want {SAMPLE_RATE}; "
            f"{_MAKE_ONE}"
        )
    embedding = bundle.stages["avsync_audio"].graphs[0].outputs.get("audio_embedding")
    width = embedding.shape[-1] if embedding else 0
    for stage in _STAGES:
        for graph in bundle.stages[stage].graphs:
            batch = graph.branches or 0
            shapes = {
                "mel": (batch, 1, size.mel_bins, size.mel_frames),
                "video": (batch, 3, size.frames, size.height, size.width),
                "audio_embedding": (batch, width),
                "video_embedding": (batch, width),
                "score": (batch, 1),
            }
            for name, found in (graph.inputs | graph.outputs).items():
                want = TensorSpec("float32", shapes.get(name, ()))
                if found != want:
                    raise BundleError(
                        f"{bundle.path / MANIFEST}: {graph.file}: {name!r:.40} is {found}, want "
                        f"{want}; {_MAKE_ONE}"
                    )
