"""A preset that exports in seconds, with random weights, and its bundle."""

from functools import cache
from unittest import mock

import pytest
import torch
from torch.onnx._internal.exporter._registration import ONNXRegistry

from keyvid.export.build import build_bundle
from keyvid.export.released import REVISION
from keyvid.export.source import Source
from keyvid.export.stages import STAGES
from keyvid_ref.weights import NETWORKS, random_weights
from keyvid_ref.world.text import make_tokenizer
from tests.export import small
from tests.export.small import micro_preset, published_preset
from tests.export.stand_in_hub import Repository, serve_hub

# What Lightning saves beside the weights; large, so that a download takes several pieces.
_TRAINING = {
    "epoch": 3,
    "global_step": 12,
    "pytorch-lightning_version": "1.9.3",
    "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 4}}}},
    "callbacks": {"ModelCheckpoint": {"best_model_score": torch.ones(()), "best_k_models": {}}},
    "optimizer_states": [
        {
            "state": {0: {"step": torch.ones(()), "exp_avg": torch.zeros(6_000_000)}},
            "param_groups": [{"lr": 1e-5, "betas": (0.9, 0.999), "params": [0]}],
        }
    ],
    "lr_schedulers": [],
}
POSITIONS = "modality_preprocessors.audio.pos_embedding_helper.pos_embed"


@pytest.fixture(scope="session", autouse=True)
def one_registry():
    """torch's table of ONNX operators, made once: it takes half a second of each small graph."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib))
        )
        yield


@pytest.fixture(scope="session")
def micro():
    """The tiny preset with one level, one layer and a quarter of the pixels."""
    return micro_preset()


@pytest.fixture(scope="session")
def source(micro):
    """Random weights of the micro preset."""
    return Source.random(micro, 0)


@pytest.fixture(scope="session", autouse=True)
def few_variants():
    """One graph per U-Net and temporal mode: tracing is slow."""
    with mock.patch.dict(STAGES, small.few_variants()):
        yield


@pytest.fixture(scope="session")
def exported(source, few_variants, tmp_path_factory):
    """Every stage of the micro preset in all forms, verified: folder of the bundle and reports."""
    folder = tmp_path_factory.mktemp("bundles") / "micro"
    return folder, build_bundle(source, folder, families=["cuda"])


@pytest.fixture(scope="session")
def exported_half(source, few_variants, tmp_path_factory):
    """Every stage of the micro preset in half precision and all forms, not verified: its folder."""
    folder = tmp_path_factory.mktemp("bundles") / "half"
    build_bundle(source, folder, precision="fp16", families=["cuda"], verify=False)
    return folder


@pytest.fixture(scope="session")
def published():
    """The micro preset as the published one is: released layout, ImageBind's grid of patches."""
    return published_preset()


@pytest.fixture(scope="session")
def released_states(published):
    """State dicts in the released layout, and what they hold that KeyVID does not use."""
    networks = {name: random_weights(published, name, 0) for name in NETWORKS}
    image = networks["image_encoder"]
    audio = networks["audio_encoder"]
    audio[POSITIONS] = torch.randn(1, 1 + 12 * 19, published.audio.width)
    imagebind = {**audio, "modality_trunks.vision.blocks.0.norm_1.weight": torch.ones(3)}
    clip = {key.removeprefix("clip."): x for key, x in image.items() if key.startswith("clip.")}
    resampler = {
        key.removeprefix("resampler."): x
        for key, x in image.items()
        if key.startswith("resampler.")
    }
    encoders = {
        "cond_stage_model.model": {**networks["text_encoder"], "logit_scale": torch.ones(())},
        "embedder.model.visual": clip,
        "embedder.model": {"token_embedding.weight": torch.ones(2, 3)},
        "image_proj_model": resampler,
        "audio_proj_model": {"proj.weight": torch.ones(3)},
        "imagebind_model": imagebind,
        "first_stage_model": networks["vae"],
    }

    def prefixed(parts):
        state = {f"{prefix}.{k}": x for prefix, part in parts.items() for k, x in part.items()}
        return {**state, "betas": torch.ones(1000)}

    return {
        "generator": prefixed({**encoders, "model.diffusion_model": networks["generator"]}),
        "interpolator": prefixed({"model.diffusion_model": networks["interpolator"]}),
        "imagebind": imagebind,
        "localizer": networks["localizer"],
    }


@pytest.fixture(scope="session")
def released(published, released_states, tmp_path_factory):
    """Released files of the published micro preset, by what they are."""
    folder = tmp_path_factory.mktemp("released")
    files = {}
    for name, state in released_states.items():
        files[name] = folder / f"{name}.ckpt"
        is_plain = name in ("imagebind", "localizer")
        torch.save(state if is_plain else {**_TRAINING, "state_dict": state}, files[name])
    files["tokenizer"] = folder / "tokenizer.json"
    tokenizer = make_tokenizer(published.clip_text.vocab_size, published.clip_text.context_length)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(files["tokenizer"]))
    return files


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the Hub without repositories, and a home folder without downloads."""
    with serve_hub() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)  # of all tests; this one has its own
        yield server


@pytest.fixture
def published_hub(hub, released, monkeypatch):
    """The same with the repositories of the release, as they are published."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 2**20)
    read = {name: path.read_bytes() for name, path in released.items()}
    files = {
        ".gitattributes": b"*.ckpt filter=lfs\n",
        "README.md": b"# KeyVID\n",
        "KeyVID/keyframe_generation/generator_checkpoint.ckpt": read["generator"],
        "KeyVID/interpolation/epoch=1119-step=17920.ckpt.json": b"{}",
        "KeyVID/interpolation/epoch=3669-step=58720.ckpt": read["interpolator"],
        "KeyVID/interpolation/epoch=99-step=12.ckpt": b"another interpolator",
        "KeyVID/wav2motion/best_model_version1_with_skip.pth": read["localizer"],
        "RAFT_models/raft-things.pth": b"optical flow",
        "avsync/vggss_sync_contrast_12/head/diffusion_pytorch_model.bin": b"AVSync",
        "avsync/vggss_sync_contrast_12/video_encoder/diffusion_pytorch_model.bin": b"and more",
    }
    hub.repositories = {
        "RyanWW/KeyVID": Repository({REVISION: files}, REVISION),
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": Repository(
            {40 * "c": {"tokenizer.json": read["tokenizer"], "open_clip_pytorch_model.bin": b""}},
            40 * "c",
        ),
    }
    return hub
