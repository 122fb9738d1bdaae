"""What sampling takes before anything is run: network calls and FLOP of both U-Nets."""

from collections import Counter
from collections.abc import Callable
from functools import cache

from bench.speed.flops import count_module_flops
from keyvid.bundle.manifest import Bundle
from keyvid.export.flops import count_graph_flops
from keyvid.export.stages import STAGES, Variant
from keyvid.export.verify import known_sample
from keyvid.runtime.diffusion.guidance import active_branches, guidance_rows
from keyvid.sampling import DEFAULT_QUALITY, UNETS, Sampling, Settings, resolve
from keyvid.score.report import Table
from keyvid_ref.presets import Preset
from keyvid_ref.weights import outline_network

FlopsOfCall = Callable[[str, Variant], int]  # of a U-Net by its name


def unet_calls(sampling: Sampling) -> dict[str, Counter[int]]:
    """How many steps of each U-Net run how many guidance branches."""
    return {
        unet: Counter(len(active_branches(w)) for w in guidance_rows(sampling.of(unet)).values())
        for unet in UNETS
    }


def format_calls(sampling: Sampling) -> dict[str, str]:
    """Steps times branches of each U-Net, such as "4 x 2 + 8 x 1"."""
    return {
        unet: " + ".join(f"{steps} x {branches}" for branches, steps in sorted(of.items())[::-1])
        for unet, of in unet_calls(sampling).items()
    }


def unet_flops(sampling: Sampling, flops_of_call: FlopsOfCall) -> dict[str, int]:
    """FLOPs of each U-Net for a clip of one window."""
    return {
        unet: sum(
            steps * flops_of_call(unet, _variant(unet, branches, sampling))
            for branches, steps in of.items()
        )
        for unet, of in unet_calls(sampling).items()
    }


def clip_flops(sampling: Sampling, flops_of_call: FlopsOfCall) -> int:
    """FLOPs of both U-Nets for a clip of one window."""
    return sum(unet_flops(sampling, flops_of_call).values())


def bundle_flops(bundle: Bundle) -> FlopsOfCall:
    """FLOPs of a call, as the bundle states them; counted in its graphs where it does not."""

    @cache
    def count(unet: str, variant: Variant) -> int:
        graph = bundle.graph(unet, branches=variant.branches, temporal=variant.temporal)
        return graph.flops or count_graph_flops(bundle.path / graph.file)

    return count


def preset_flops(preset: Preset) -> FlopsOfCall:
    """FLOPs of a call, counted in the networks of a preset, of which no numbers are made."""

    @cache
    def count(unet: str, variant: Variant) -> int:
        stage = STAGES[unet]
        inputs = known_sample(stage.inputs(preset, variant))
        network = outline_network(preset, stage.weights)
        return count_module_flops(network, stage.call_of(variant), list(inputs.values()))

    return count


def format_costs(preset: Preset) -> str:
    """A line for each quality of a preset, Markdown."""
    flops_of_call = preset_flops(preset)
    rows = []
    for quality in (DEFAULT_QUALITY, *preset.qualities):
        sampling = resolve(Settings(quality=quality), preset.sampling, preset.qualities)
        petaflops = clip_flops(sampling, flops_of_call) / 1e15
        rows.append([quality, *format_calls(sampling).values(), f"{petaflops:.3g}"])
    return f"{Table(['quality', *UNETS, 'PFLOP'], rows)}\n"


def _variant(unet: str, branches: int, sampling: Sampling) -> Variant:
    return Variant(branches, sampling.temporal if unet == "interpolator" else None)
