"""How the frames of a clip came about, as its receipt tells it."""

import base64
from collections.abc import Mapping
from importlib.metadata import version

import numpy as np

from keyvid.bundle.files import known_sha256
from keyvid.bundle.manifest import MANIFEST, Bundle
from keyvid.engines.engine import EngineChoice
from keyvid.engines.spec import installed_versions
from keyvid.provenance.digests import digest_of
from keyvid.provenance.receipt import BundleRecord, EngineRecord, Making
from keyvid.runtime.request import Prepared

FILE_DIGITS = 16  # of a file's sha256 in a receipt: it tells which one differs


def describe_making(
    bundle: Bundle,
    engine: EngineChoice,
    batches: Mapping[str, int],
    prepared: Prepared,
    stages: Mapping[str, str],
    frames: np.ndarray,
) -> Making:
    """What a receipt says of the frames (F, H, W, 3) of a clip.

    Args:
        batches: guidance branches per call, by U-Net.
        stages: digests of what each stage has made.
    """
    inputs, keyframes, motion = prepared.inputs, prepared.keyframes, prepared.motion
    told = None
    if motion is not None:
        told = base64.b64encode(motion.astype("<f4").tobytes()).decode()
    return Making(
        keyvid=version("keyvid"),
        picture=digest_of(inputs.picture),
        sound=digest_of(inputs.mono),
        track=digest_of(inputs.sound.samples),
        end=None if inputs.end is None else digest_of(inputs.end),
        prompt=prepared.prompt,
        seed=prepared.seed,
        settings=prepared.sampling,
        reading=prepared.reading,
        num_frames=inputs.num_frames,
        fps=bundle.dimensions.fps,
        keyframes=None if keyframes is None else tuple(keyframes.tolist()),
        motion=told,
        beats=None if prepared.beats is None else tuple(prepared.beats.tolist()),
        packaged_localizer=prepared.packaged_localizer,
        bundle=describe_bundle(bundle),
        engine=describe_engine(bundle, engine, batches),
        stages=dict(stages),
        pixels=digest_of(frames),
    )


def told_motion(making: Making) -> np.ndarray | None:
    """(num_frames,) float32 motion that was told, None where it was predicted.

    Raises:
        ValueError: the receipt holds no such motion.
    """
    if making.motion is None:
        return None
    motion = np.frombuffer(base64.b64decode(making.motion, validate=True), "<f4")
    if motion.shape != (making.num_frames,) or not np.isfinite(motion).all():
        raise ValueError(f"motion {motion.shape}, want ({making.num_frames},) finite numbers")
    return motion.astype(np.float32)


def describe_bundle(bundle: Bundle) -> BundleRecord:
    """What a receipt says of a bundle; no path."""
    sources = (bundle.sources or {}).values()
    origin = [f"{one.repository}@{one.revision}" for one in sources if one.repository]
    return BundleRecord(
        name=bundle.name,
        weights=bundle.weights,
        manifest=known_sha256(bundle.path / MANIFEST),
        origin=tuple(dict.fromkeys(origin)),
        files={name: file.sha256[:FILE_DIGITS] for name, file in bundle.files.items()},
    )


def describe_engine(
    bundle: Bundle, engine: EngineChoice, batches: Mapping[str, int]
) -> EngineRecord:
    """What a receipt says of an engine."""
    precisions = dict.fromkeys(stage.precision for stage in bundle.stages.values())
    found = installed_versions(("numpy", "av"))
    ours = {name: number for name, number in found.items() if number is not None}
    return EngineRecord(
        name=engine.name,
        precision=" and ".join(precisions),
        versions={**ours, **engine.spec.versions()},
        batches=dict(batches),
    )
