"""How clips are made, as data: one recipe, or several that differ in one thing each."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

from bench.quality.cost import bundle_flops, clip_flops, format_calls
from bench.quality.without import ABLATIONS
from keyvid import Pipeline
from keyvid.errors import SettingsError
from keyvid.runtime.diffusion.keyframes import parse_keyframes
from keyvid.runtime.diffusion.noise import check_seed
from keyvid.sampling import Quality, Sampling, parse_settings, resolve
from keyvid_ref.world import world


@dataclass(frozen=True)
class Recipe:
    """How clips are made.

    Attributes:
        settings: texts such as "steps=25".
        keyframes: "auto", "uniform" or frame numbers.
        seed: of the sampling noise.
        without: an ablation, a name in `ABLATIONS`.
    """

    bundle: str = "tiny"
    engine: str = "auto"
    settings: tuple[str, ...] = ()
    keyframes: str = "auto"
    seed: int = 0
    without: str | None = None

    def open(self, threads: int | None = None) -> Pipeline:
        """The pipeline, after a check of everything that could be wrong with the recipe."""
        pipeline = Pipeline.load(self.bundle, self.engine, threads=threads)
        size = pipeline.bundle.dimensions
        if (size.frames, size.fps) != (world.NUM_FRAMES, world.FPS):
            raise SettingsError(
                f"bundle {pipeline.bundle.name} makes {size.frames} frames at {size.fps} a second; "
                f"the synthetic world has {world.NUM_FRAMES} at {world.FPS}"
            )
        self.sampling(pipeline)
        parse_keyframes(self.keyframes, size.frames, size.keyframes)
        check_seed(self.seed)
        if self.without not in (None, *ABLATIONS):
            raise SettingsError(f"without {self.without}: want one of {', '.join(ABLATIONS)}")
        if self.without:
            pipeline.diffusion = ABLATIONS[self.without]
        return pipeline

    def sampling(self, pipeline: Pipeline) -> Sampling:
        """How both U-Nets sample."""
        bundle = pipeline.bundle
        return resolve(parse_settings(self.settings), bundle.sampling, bundle.qualities)

    def describe(self, pipeline: Pipeline) -> dict[str, Any]:
        """The recipe as JSON values, with all that the defaults stand for."""
        manifest = (pipeline.bundle.path / "bundle.json").read_bytes()
        sampling = self.sampling(pipeline)
        return {
            "bundle": pipeline.bundle.name,
            "bundle_sha256": sha256(manifest).hexdigest()[:16],
            "engine": pipeline.engine.name,
            "settings": asdict(sampling),
            "steps x branches": format_calls(sampling),
            "TFLOP": round(clip_flops(sampling, bundle_flops(pipeline.bundle)) / 1e12, 3),
            "keyframes": self.keyframes,
            "seed": self.seed,
            "without": self.without or "nothing",
        }


# Name -> what it changes of the recipe that all begin from.
VARIANTS: dict[str, dict[str, Any]] = {
    "uniform": {"keyframes": "uniform"},
    "no-frame-index": {"without": "frame-index"},
    "no-first-frame": {"without": "first-frame"},
    "full": {"settings": {"temporal": "full"}},
    **{
        f"guidance-{scale}": {
            "settings": {"guidance_audio": scale, "interpolator_guidance_audio": 1}
        }
        for scale in (1, 2, 4, 7)
    },
    "interpolator-guided": {"settings": {"interpolator_guidance_audio": 2.5}},
    **{f"interpolator-{steps}": {"settings": {"interpolator_steps": steps}} for steps in (2, 4, 8)},
    "guided-until-500": {"settings": {"guidance_until": 500}},
    **{
        f"generator-{steps}": {"settings": {"steps": steps, "interpolator_steps": 3}}
        for steps in (4, 8, 12)
    },
    "even": {"settings": {"spacing": 1}},
    "even-10-5": {"settings": {"spacing": 1, "steps": 10, "interpolator_steps": 5}},
    "dpm-10-5": {"settings": {"steps": 10, "interpolator_steps": 5}},
    "dpm-40-20": {"settings": {"spacing": 1.5, "steps": 40, "interpolator_steps": 20}},
    **{
        f"ddim-{steps}": {"settings": {"solver": "ddim", "spacing": 1, "steps": steps}}
        for steps in (15, 25, 50, 90)
    },
    "guided-15": {
        "settings": {"quality": "balanced", "spacing": 1, "steps": 15, "guidance_audio": 2.5}
    },
    **{quality: {"settings": {"quality": quality}} for quality in get_args(Quality)},
}


def read_variants(path: Path) -> dict[str, dict[str, Any]]:
    """Variants of a JSON file, written as `VARIANTS` is.

    Raises:
        SettingsError: it is no such file.
    """
    try:
        variants = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read ({error})") from error
    if not isinstance(variants, dict) or not all(isinstance(v, dict) for v in variants.values()):
        raise SettingsError(f'{path}: want {{"NAME": {{"settings": {{"steps": 8}}}}, ...}}')
    return variants


def vary(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with the changes of a variant; settings are added to those it has.

    Raises:
        SettingsError: a change is none of a recipe.
    """
    names = [field.name for field in fields(Recipe)]
    unknown = set(changes) - set(names)
    if unknown:
        raise SettingsError(f"a recipe has no {min(unknown)}; it has {', '.join(names)}")
    added = changes.get("settings", {})
    if not isinstance(added, dict):
        raise SettingsError(f'settings are {added!r}; want {{"steps": 8}}')
    settings = (*recipe.settings, *(f"{name}={value}" for name, value in added.items()))
    return replace(recipe, **{**changes, "settings": settings})
