"""A preset that exports in seconds, with random weights, and its bundle."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest
import torch

from keyvid.export.build import build_bundle
from keyvid.export.source import Source
from keyvid.export.stages import STAGES
from keyvid_ref.presets import PRESETS
from keyvid_ref.weights import NETWORKS, random_weights
from keyvid_ref.world.text import make_tokenizer

POSITIONS = "modality_preprocessors.audio.pos_embedding_helper.pos_embed"
_TINY = PRESETS["tiny"]


@pytest.fixture(scope="session")
def micro():
    """The tiny preset with one level, one layer and a quarter of the pixels."""
    audio = replace(_TINY.audio, width=16, layers=1, heads=2, embed_dim=8)
    return replace(
        _TINY,
        height=32,
        width=48,
        latent_scale=0.5,
        unet=replace(
            _TINY.unet,
            model_channels=16,
            channel_mult=(1,),
            attention_downsampling=(1,),
            head_channels=8,
            context_dim=16,
            norm_groups=4,
            audio_dim=16,
        ),
        vae=replace(_TINY.vae, channels=16, num_res_blocks=1, norm_groups=4),
        clip_text=replace(_TINY.clip_text, width=16, layers=2, heads=2, embed_dim=8),
        clip_vision=replace(
            _TINY.clip_vision, image_size=28, width=16, layers=1, heads=2, embed_dim=8
        ),
        resampler=replace(
            _TINY.resampler,
            width=16,
            depth=1,
            heads=2,
            head_channels=8,
            input_dim=16,
            output_dim=16,
        ),
        audio=audio,
        localizer=replace(_TINY.localizer, audio=replace(audio, mel_frames=198, class_token=False)),
    )


@pytest.fixture(scope="session")
def source(micro):
    """Random weights of the micro preset."""
    return Source.random(micro, 0)


@pytest.fixture(scope="session", autouse=True)
def few_variants():
    """One graph per U-Net and temporal mode, of as many branches as tell them from the frames:
    tracing is slow."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("generator", "interpolator"):
            stage = STAGES[name]
            chosen = [variant for variant in stage.variants if variant.branches == 2]
            patch.setitem(STAGES, name, replace(stage, variants=tuple(chosen)))
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
def published(micro):
    """The micro preset as the published one is: released layout, ImageBind's grid of patches."""
    audio = replace(micro.audio, stride=(10, 4))
    return replace(micro, name="keyvid-512", layout="released", audio=audio)


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
        torch.save(state if is_plain else {"state_dict": state, "epoch": 3}, files[name])
    files["tokenizer"] = folder / "tokenizer.json"
    tokenizer = make_tokenizer(published.clip_text.vocab_size, published.clip_text.context_length)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(files["tokenizer"]))
    return files


class FakeHub(ThreadingHTTPServer):
    """Serves the files of repositories as the Hub does, each request within its limits.

    Attributes:
        files: "OWNER/NAME/PATH" to content.
        stated: the same to the checksum that the server claims, where it lies.
        budget: bytes that are sent before every connection breaks.
        requests: method, path and first byte asked for.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files, self.stated, self.budget, self.requests = {}, {}, None, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def log_message(self, *_):
        pass

    def _answer(self, with_body):
        hub = self.server
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        hub.requests.append((self.command, self.path, start))
        name = unquote(self.path)[1:].replace("/resolve/main", "")
        content = hub.files.get(name)
        self.send_response(404 if content is None else 206 if start else 200)
        content = content or b""
        checksum = hub.stated.get(name, hashlib.sha256(content).hexdigest())
        self.send_header("ETag", f'"{checksum}"')
        self.send_header("X-Repo-Commit", 40 * "0")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if with_body:
            sent = self.wfile.write(content[start:][: hub.budget])
            if hub.budget is not None:
                hub.budget -= sent
                self.close_connection = True


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A server in place of the Hub, and a home folder without downloads."""
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
