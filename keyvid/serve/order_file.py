"""An order on disk: numbers and arrays alone, nothing that runs when it is read."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from keyvid.bundle.manifest import MANIFEST, Bundle
from keyvid.errors import SettingsError
from keyvid.file_safety import write_whole
from keyvid.provenance.receipt import Reading
from keyvid.runtime.diffusion.guidance import count_branches
from keyvid.runtime.media.sound import Sound
from keyvid.runtime.request import Inputs, Prepared
from keyvid.sampling import Sampling
from keyvid.serve.order import Order

ORDER, ARRAYS = "order.json", "order.npz"


class _Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of an order is no array.

    Attributes:
        bundle, manifest: name of the bundle that it was checked for, and SHA-256 of its manifest.
        rate: of the sound.
    """

    bundle: str
    manifest: str
    scale: int
    num_frames: int
    rate: int
    prompt: str
    seed: int
    sampling: Sampling
    cfg_batch: int | None
    packaged_localizer: bool
    reading: Reading
    asked: dict[str, Any]
    remarks: tuple[str, ...]


def write_order(folder: Path, order: Order, bundle: Bundle) -> None:
    """Put an order into a folder.

    Raises:
        OSError: it cannot be written.
    """
    prepared, inputs = order.prepared, order.prepared.inputs
    text = _Text(
        bundle=bundle.name,
        manifest=_fingerprint(bundle),
        scale=order.scale,
        num_frames=inputs.num_frames,
        rate=inputs.sound.rate,
        prompt=prepared.prompt,
        seed=prepared.seed,
        sampling=prepared.sampling,
        cfg_batch=prepared.cfg_batch,
        packaged_localizer=prepared.packaged_localizer,
        reading=prepared.reading,
        asked=prepared.asked,
        remarks=prepared.remarks,
    )
    arrays = {
        "picture": inputs.picture,
        "samples": inputs.sound.samples,
        "mono": inputs.mono,
        "end": inputs.end,
        "motion": prepared.motion,
        "beats": prepared.beats,
        "keyframes": prepared.keyframes,
    }
    content = io.BytesIO()
    given: Mapping[str, Any] = {name: a for name, a in arrays.items() if a is not None}
    np.savez(content, **given)
    write_whole(folder / ARRAYS, content.getvalue())
    write_whole(folder / ORDER, msgspec.json.encode(text))


def read_order(folder: Path, bundle: Bundle) -> Order:
    """The order in a folder, as it was written.

    Raises:
        SettingsError: it was checked for another bundle.
        OSError, ValueError, LookupError: it is not whole.
    """
    text = msgspec.json.decode((folder / ORDER).read_bytes(), type=_Text)
    if text.manifest != _fingerprint(bundle):
        raise SettingsError(
            f"was ordered from the bundle {text.bundle}, and the server now has another one or "
            f"another version ({bundle.name}); order it again"
        )
    with np.load(folder / ARRAYS) as archive:
        arrays = dict(archive)
    sampling = text.sampling
    guided = sampling if text.prompt else sampling.without_prompt()
    prepared = Prepared(
        inputs=Inputs(
            arrays["picture"],
            Sound(arrays["samples"], text.rate),
            arrays["mono"],
            text.num_frames,
            arrays.get("end"),
        ),
        prompt=text.prompt,
        seed=text.seed,
        sampling=sampling,
        guided=guided,
        branches=count_branches(guided),
        cfg_batch=text.cfg_batch,
        motion=arrays.get("motion"),
        packaged_localizer=text.packaged_localizer,
        beats=arrays.get("beats"),
        keyframes=arrays.get("keyframes"),
        reading=text.reading,
        asked=text.asked,
        remarks=text.remarks,
    )
    return Order(prepared, text.scale)


def _fingerprint(bundle: Bundle) -> str:
    return hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
