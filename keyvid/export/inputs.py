"""The source of weights that the options of `keyvid-export` name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from keyvid.bundle.manifest import PACKAGED
from keyvid.errors import SettingsError
from keyvid.export.hub import open_from_hub
from keyvid.export.source import Source
from keyvid_ref.presets import Preset


def open_source(
    preset: Preset,
    stages: Sequence[str],
    weights: str | None,
    seed: int | None,
    released: Mapping[str, Path],
    from_hub: bool,
) -> Source:
    """The one source that is named; without any, the packaged weights of `preset`.

    Args:
        stages: what is to be exported.
        weights: a folder.
        seed: of random weights.
        released: released files as for `Source.released`.
        from_hub: download those that are needed and not given.
    Raises:
        SettingsError: more than one source is named, or none and `preset` is not packaged.
        BundleError: it cannot be opened or downloaded.
    """
    ways = {
        "--weights": weights is not None,
        "--random-weights": seed is not None,
        "released files": from_hub or bool(released),
    }
    named = [way for way, is_named in ways.items() if is_named]
    if len(named) > 1:
        raise SettingsError(f"{' and '.join(named)} exclude each other; choose one of them")
    if seed is not None:
        return Source.random(preset, seed)
    if from_hub:
        return open_from_hub(preset, released, stages)
    if released:
        return Source.released(preset, released)
    if weights is None and preset.name not in PACKAGED:
        raise SettingsError(
            f"preset {preset.name} has no packaged weights; give --from-hub, released files such "
            "as --generator FILE, --weights FOLDER or --random-weights SEED"
        )
    return Source.open(preset, weights or preset.name)
