"""Making a clip again from its receipt, and comparing what comes of it."""

import filecmp
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.counting import counted
from keyvid.engines.engine import AUTO, probe_engine
from keyvid.engines.spec import ENGINES
from keyvid.errors import BundleError, SettingsError
from keyvid.provenance.digests import digest_of
from keyvid.provenance.receipt import Making, Receipt, read_receipt
from keyvid.runtime.clip import Clip
from keyvid.runtime.diffusion.keyframes import parse_keyframes
from keyvid.runtime.making import describe_bundle, told_motion
from keyvid.runtime.motion import FIRST
from keyvid.runtime.networks.stages import Progress
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.request import Prepared, Request
from keyvid.sampling import Settings, UNetSettings
from keyvid.verify.clip import ClipFile
from keyvid.verify.closeness import best_match, bound_db, psnr_db
from keyvid.verify.finding import Finding

_SHOWN = 3  # names in a line


def request_of(making: Making, image: Path, audio: Path, end: Path | None) -> Request:
    """The request that a receipt tells of, with a picture, a sound and perhaps a last picture.

    Raises:
        SettingsError: a last picture is missing.
    """
    last: Path | str | None = end
    if making.end == making.picture:
        last = FIRST
    elif making.end and not end:
        raise SettingsError("the clip was given its last frame, too; add its picture as --end")
    sampling = making.settings
    settings = Settings(
        **asdict(sampling.generator),
        interpolator=UNetSettings(**asdict(sampling.interpolator)),
        temporal=sampling.temporal,
        cfg_batch=max(making.engine.batches.values(), default=None),
    )
    return Request(
        image=image,
        audio=audio,
        end=last,
        beats=making.beats,
        prompt=making.prompt,
        seed=making.seed,
        settings=settings,
        length=making.num_frames / making.fps,
        **asdict(making.reading),
    )


def prepare_again(
    pipeline: Pipeline, making: Making, image: Path, audio: Path, end: Path | None = None
) -> Prepared:
    """What the receipt's clip was made of, with a picture, a sound and perhaps a last picture.

    Raises:
        KeyvidError: they cannot be read, or the receipt asks for what the bundle does not have.
    """
    prepared = pipeline.prepare(request_of(making, image, audio, end))
    try:
        motion = told_motion(making)
    except ValueError as error:
        raise SettingsError(f"the receipt cannot be made again: {error}") from error
    size, keyframes = pipeline.bundle.dimensions, None
    if making.keyframes is not None:
        told = ",".join(map(str, making.keyframes))
        keyframes = parse_keyframes(told, size.frames, size.keyframes)
    return replace(
        prepared,
        motion=motion,
        keyframes=keyframes,
        packaged_localizer=making.packaged_localizer,
    )


def check_bundle(bundle: str, making: Making) -> tuple[Bundle | None, Finding]:
    """The bundle, and whether it is the receipt's; None for one that cannot be run."""
    try:
        loaded = Bundle.load(bundle)
    except BundleError as error:
        return None, Finding("bundle", "bad", str(error))
    found, wanted = describe_bundle(loaded), making.bundle
    if found == wanted:
        return loaded, Finding("bundle", "good", f"{found.name}, every file as it was")
    names = {**wanted.files, **found.files}
    others = [name for name in names if wanted.files.get(name) != found.files.get(name)]
    if not others:
        return loaded, Finding("bundle", "noted", "its files are the same, bundle.json is not")
    shown = ", ".join(others[:_SHOWN]) + (" and others" if len(others) > _SHOWN else "")
    return loaded, Finding("bundle", "bad", f"another one: {shown}")


def choose_engine_for(making: Making) -> str:
    """The receipt's engine where it works here, else the one that `auto` takes."""
    name = making.engine.name
    return name if name in ENGINES and probe_engine(name).available else AUTO


def remake(
    clip: ClipFile,
    receipt: Receipt,
    pipeline: Pipeline,
    prepared: Prepared,
    progress: Progress | None = None,
) -> Iterator[Finding]:
    """What is found of a clip when it is made again."""
    wanted = receipt.making
    yield _of_inputs(prepared, wanted)
    again = pipeline.make(prepared, progress)
    made = again.making
    assert made is not None, "pipelines say how they made a clip"
    yield _of_engine(made, wanted)
    differing = [n for n, digest in made.stages.items() if wanted.stages.get(n) != digest]
    is_same = made.pixels == wanted.pixels and not differing
    if is_same:
        yield Finding("stages", "good", "each made what it made then")
    else:
        first = differing[0] if differing else "vae_decoder"
        yield Finding("stages", "noted", f"the first to make something else is {first}")
    with TemporaryDirectory() as folder:
        yield _of_result(clip, receipt, again, is_same, Path(folder))


def _of_inputs(prepared: Prepared, wanted: Making) -> Finding:
    inputs = prepared.inputs
    pairs = {
        "picture": (inputs.picture, wanted.picture),
        "sound": (inputs.mono, wanted.sound),
        "sound of the file": (inputs.sound.samples, wanted.track),
        "last picture": (inputs.end, wanted.end),
    }
    others = [name for name, (array, wants) in pairs.items() if _digest(array) != wants]
    if others:
        return Finding("inputs", "bad", f"not the receipt's: {', '.join(others)}")
    return Finding("inputs", "good", "picture and sound are the receipt's")


def _digest(array: np.ndarray | None) -> str | None:
    return None if array is None else digest_of(array)


def _of_engine(made: Making, wanted: Making) -> Finding:
    ours, theirs = made.engine, wanted.engine
    if ours == theirs and made.keyvid == wanted.keyvid:
        return Finding("engine", "good", f"{ours.name}, all versions as they were")
    if ours.name != theirs.name:
        return Finding("engine", "noted", f"{ours.name}, the receipt's is {theirs.name}")
    then, now = theirs.versions | {"keyvid": wanted.keyvid}, ours.versions | {"keyvid": made.keyvid}
    others = [f"{n} {now.get(n)}, then {then.get(n)}" for n in then if now.get(n) != then[n]]
    return Finding("engine", "noted", f"{ours.name}: {'; '.join(others) or 'other batches'}")


def _of_result(
    clip: ClipFile, receipt: Receipt, again: Clip, is_same: bool, folder: Path
) -> Finding:
    """How near the clip is to one that was made again; that one lies in `folder` meanwhile."""
    writing = receipt.writing
    path = folder / f"again{writing.kind}"
    text = again.save(path, scale=writing.scale, enlargement=writing.enlargement)  # type: ignore[arg-type] # checked there
    assert text is not None, "a label was given"
    ours = read_receipt(text).writing
    if filecmp.cmp(clip.path, path, shallow=False):
        return Finding("again", "good", "same bytes")
    if is_same and ours.pictures.digest == writing.pictures.digest == clip.pictures.digest:
        return Finding("again", "good", "same frames")
    made, seen = ClipFile.read(path).frames(), clip.frames()
    fitting = best_match(seen, made)
    if fitting is None:
        sizes = f"{_size(seen)}, made again {_size(made)}"
        return Finding("again", "noted", f"cannot be compared: {sizes}")
    found = psnr_db(seen, fitting)
    if is_same:
        return Finding("again", "noted", f"same frames, then encoded otherwise: {found:.1f} dB")
    assert again.making is not None, "it was saved with a receipt"
    names = receipt.making.engine.name, again.making.engine.name
    bound, which = bound_db(*names), " and ".join(dict.fromkeys(names))
    allowed = f"docs/precision.md bounds {which} by {bound:.0f} dB"
    if found < bound:
        return Finding("again", "bad", f"{found:.1f} dB apart; {allowed}")
    return Finding("again", "good", f"within {found:.1f} dB; {allowed}")


def _size(frames: np.ndarray) -> str:
    count, height, width, _ = frames.shape
    return f"{counted(count, 'frame')} of {height}x{width}"
