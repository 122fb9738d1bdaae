"""All that can be found of a clip with what is at hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keyvid.bundle.manifest import PACKAGED
from keyvid.engines.engine import choose_engine
from keyvid.errors import SettingsError
from keyvid.provenance.receipt import Making
from keyvid.runtime.localizer import num_stages
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.progress import ProgressDisplay
from keyvid.verify.clip import ClipFile, receipt_of_report
from keyvid.verify.finding import Finding
from keyvid.verify.inspection import inspect_clip
from keyvid.verify.remaking import check_bundle, choose_engine_for, prepare_again, remake


@dataclass(frozen=True)
class AtHand:
    """What there is beside a clip; None for what is not there.

    Attributes:
        image, audio: what it was made of, both or none.
        end: picture of its last frame, where that was given and is not `image`.
        bundle: the model; None for the packaged one that the receipt names.
        engine: None for the receipt's, where it works here.
        report: the clip's, to take the receipt from it.
    """

    image: Path | None = None
    audio: Path | None = None
    end: Path | None = None
    bundle: str | None = None
    engine: str | None = None
    report: Path | None = None


def verify_clip(path: Path, at_hand: AtHand) -> Iterator[Finding]:
    """What is found of the clip at `path`, one after the other.

    Raises:
        KeyvidError: something cannot be read, or is missing for what was asked.
    """
    clip = ClipFile.read(path)
    text = receipt_of_report(at_hand.report) if at_hand.report else clip.receipt
    receipt, findings = inspect_clip(clip, text)
    yield from findings
    if receipt is None:
        return
    making, image, audio = receipt.making, at_hand.image, at_hand.audio
    if at_hand.bundle is None and image is None:
        return
    bundle, found = check_bundle(at_hand.bundle or _packaged(making), making)
    yield found
    if bundle is None or image is None or audio is None:
        return
    engine = choose_engine(at_hand.engine or choose_engine_for(making), bundle)
    with Pipeline(bundle, engine) as pipeline:
        prepared = prepare_again(pipeline, making, image, audio, at_hand.end)
        with ProgressDisplay(num_stages(bundle, prepared)) as progress:
            yield from remake(clip, receipt, pipeline, prepared, progress)


def _packaged(making: Making) -> str:
    name = making.bundle.name
    if name not in PACKAGED:
        raise SettingsError(f"the receipt's bundle is {name}; give its folder with --bundle")
    return name
