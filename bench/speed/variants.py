"""The ways to run a network, and a clip: reference as released, autocast, compiled, engines."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from msgspec import convert
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from bench.speed.calls import Call, Candidate, Case
from bench.speed.flops import count_module_flops
from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import Form
from keyvid.engines.engine import choose_engine, open_engine
from keyvid.errors import SettingsError
from keyvid.export.stages import STAGES, Variant
from keyvid.export.verify import known_sample
from keyvid.runtime.pipeline import Pipeline
from keyvid.sampling import Settings, Temporal, resolve
from keyvid_ref.pipeline import ReferencePipeline
from keyvid_ref.presets import Preset
from keyvid_ref.weights import Networks, random_network, random_networks
from keyvid_ref.world.text import make_tokenizer

CASES = ("generator", "interpolator", "vae_decoder", "clip")
MODES = ("released", "autocast", "compiled")  # of PyTorch
_PER_STEP = ("latent", "timestep")  # what changes from call to call in the denoise loop
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class Bench:
    """What is compared.

    Attributes:
        bundle: of `preset`, for the engines; None where there is none.
        modes: of `MODES`.
        engines: names in `keyvid.engines.spec.ENGINES`; "cuda:plain" is an engine on graphs of
            another form than its own.
    """

    preset: Preset
    device: torch.device
    bundle: Bundle | None
    modes: Collection[str]
    engines: Sequence[str]

    @property
    def half(self) -> torch.dtype:
        """What autocast computes in: float16, which CPUs lack, on a GPU."""
        return torch.float16 if self.device.type == "cuda" else torch.bfloat16

    def cases(
        self, chosen: Collection[str], batches: Sequence[int], clip_steps: Sequence[int]
    ) -> Iterator[Case]:
        """U-Net calls of each batch, the decoder, whole clips, as `chosen` of `CASES`.

        One at a time, with no more networks in memory than it calls.
        """
        for name in CASES[:2]:
            for batch in batches if name in chosen else ():
                temporal: Temporal | None = "windows" if name == "interpolator" else None
                yield self._call(name, Variant(batch, temporal))
        if "vae_decoder" in chosen:
            yield self._call("vae_decoder", Variant())
        for steps in clip_steps if "clip" in chosen else ():
            yield self._clip(random_networks(self.preset, 0), steps)

    def _call(self, name: str, variant: Variant) -> Case:
        stage = STAGES[name]
        inputs = known_sample(stage.inputs(self.preset, variant))
        module, graph_call = random_network(self.preset, stage.weights, 0), stage.call_of(variant)
        flops = count_module_flops(module, graph_call, list(inputs.values()))

        def make(mode: "Mode") -> Call:
            placed = module.to(self.device)
            call = mode.wrap(partial(graph_call, placed))
            on_device = [x.to(self.device) for x in inputs.values()]
            return lambda: call(*on_device)

        def make_engine(name_and_form: str) -> Call:
            engine, _, form = name_and_form.partition(":")
            bundle = self._bundle_for(engine)
            opened = open_engine(
                bundle,
                name,
                engine=engine,
                branches=variant.branches,
                temporal=variant.temporal,
                form=convert(form, Form) if form else None,
            )
            arrays = {key: x.numpy() for key, x in inputs.items()}
            changing = {key: x for key, x in arrays.items() if key in _PER_STEP or len(arrays) == 1}
            opened.bind(**{key: x for key, x in arrays.items() if key not in changing})
            return lambda: torch.from_numpy(opened(**changing)[stage.output])

        frames = next(iter(inputs.values())).shape[2] if variant.branches else 1
        what = f"{name} {frames} frames x {variant.branches}" if variant.branches else name
        warm_ups = 2 if self.device.type == "cuda" else 1
        candidates = self._candidates(make, make_engine, self.engines)
        return Case(what, candidates, flops, warm_ups)

    def _clip(self, networks: Networks, steps: int) -> Case:
        preset = self.preset
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (preset.height, preset.width, 3), dtype=np.uint8)
        rate, seconds = 16000, preset.frames / preset.fps
        sound = rng.uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)

        def make(mode: "Mode") -> Call:
            placed = _placed(networks, self.device, mode)
            text = preset.clip_text
            tokenizer = make_tokenizer(text.vocab_size, text.context_length)
            pipeline = ReferencePipeline(placed, preset, tokenizer)
            sampling = resolve(Settings(steps=steps), preset.sampling)
            return lambda: pipeline(image, sound, prompt="hammer", sampling=sampling)

        def make_engine(engine: str) -> Call:
            pipeline = Pipeline.load(self._bundle_for(engine).path, engine)
            settings = Settings(steps=steps)
            return lambda: pipeline(image, (sound, rate), prompt="hammer", settings=settings)

        own_form = [engine for engine in self.engines if ":" not in engine]
        candidates = self._candidates(make, make_engine, own_form)
        return Case(f"clip {steps} steps", candidates, None, warm_ups=1)

    def _candidates(
        self,
        make: Callable[["Mode"], Call],
        make_engine: Callable[[str], Call],
        engines: Sequence[str],
    ) -> list[Candidate]:
        half = self.half
        fused = partial(torch.autocast, self.device.type, half)
        modes = {
            # PyTorch's defaults: TF32 in convolutions, not in matrix products.
            "released": (Mode(partial(sdpa_kernel, SDPBackend.MATH)), torch.float32),
            "autocast": (Mode(fused), half),
            "compiled": (Mode(fused, torch.compile), half),
        }
        candidates = [
            Candidate(name, partial(make, mode), dtype)
            for name, (mode, dtype) in modes.items()
            if name in self.modes
        ]
        precision = self.bundle.stages["generator"].precision if self.bundle else "fp16"
        on_gpu = self.device.type == "cuda"
        dtype = _DTYPES[precision] if on_gpu else torch.float32  # engines on CPUs widen halves
        return candidates + [
            Candidate(engine, partial(make_engine, engine), dtype, uses_torch=False)
            for engine in engines
        ]

    def _bundle_for(self, engine: str) -> Bundle:
        """The bundle, if the engine can be used.

        Raises:
            KeyvidError: it cannot, or there is no bundle.
        """
        choose_engine(engine)
        if self.bundle is None:
            raise SettingsError("no --bundle given; keyvid-export makes one")
        if self.bundle.preset != self.preset.name:
            raise SettingsError(f"the bundle is of {self.bundle.preset}, not {self.preset.name}")
        return self.bundle


@dataclass(frozen=True)
class Mode:
    """How torch runs a call: within `context`, compiled by `compile_call` where there is one."""

    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    compile_call: Callable[..., Any] | None = None

    def wrap(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The call in this mode; float32 out."""
        run = self.compile_call(call) if self.compile_call else call

        def wrapped(*inputs: Any, **named: Any) -> Tensor:
            with torch.no_grad(), self.context():
                return run(*inputs, **named).float()

        return wrapped


def _placed(networks: Networks, device: torch.device, mode: Mode) -> Networks:
    """The networks on the device, called as from the CPU, where the reference pipeline works."""

    def called_from_cpu(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        run = mode.wrap(call)

        def call_on_device(*inputs: Any, **named: Any) -> Tensor:
            args, kwargs = tree_map(partial(_move, device=device), (inputs, named))
            return run(*args, **kwargs).cpu()

        return call_on_device

    fronts: dict[str, Any] = {
        name: _Front(module.to(device), called_from_cpu) for name, module in vars(networks).items()
    }
    return Networks(**fronts)


class _Front:
    """Stands before a network: its calls go through `wrap`, the rest is the network's own."""

    def __init__(self, module: Any, wrap: Callable[..., Callable[..., Tensor]]) -> None:
        self._module = module
        self._calls = {"__call__": wrap(module)}
        for name in ("encode_moments", "decode"):
            if hasattr(module, name):
                self._calls[name] = wrap(getattr(module, name))

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        return self._calls["__call__"](*inputs, **named)

    def __getattr__(self, name: str) -> Any:
        return self._calls.get(name) or getattr(self._module, name)


def _move(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value
