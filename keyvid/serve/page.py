"""The page: drop a picture and a sound, watch, move keyframes, make the clip again."""

import asyncio
import html
import io
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import gradio as gr
from fastapi import FastAPI, HTTPException, Request
from gradio.utils import get_upload_folder
from starlette.datastructures import UploadFile

from keyvid.errors import KeyvidError, MediaError
from keyvid.runtime.progress import duration_text
from keyvid.serve.job import CLIP, PLOT, REPORT, Job
from keyvid.serve.order import Order, parse_fields
from keyvid.serve.upload import read_form
from keyvid.serve.workshop import Workshop

EXAMPLES = Path(__file__).parents[1] / "examples"

_LOOK_EVERY_SECONDS = 0.2
_MOST_VISITORS = 32  # whose clips wait or are made at a time; the workshop's line is shorter
# Endings that the browser is told the kind of a file by; others say nothing.
_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".wav", ".mp3", ".flac", ".ogg", ".m4a"}
_CSS = """
.gradio-container { width: 100% !important; max-width: 1100px !important; margin: auto; }
#result video { width: 100%; image-rendering: auto; background: #000; border-radius: 8px; }
#result img { width: 100%; height: auto; border-radius: 8px; background: #fff; }
#result p { margin: 0.5em 0; }
#result [role=alert] { border-left: 4px solid #d1495b; padding: 0.5em 0.8em; }
"""


def add_page(app: FastAPI, workshop: Workshop) -> None:
    """Show the page at / of `app`."""
    blocks = _make_page(workshop)
    _take_uploads(app, blocks, workshop.limits.upload_bytes)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=_CSS,
        footer_links=[],
        ssr_mode=False,
    )


def _take_uploads(app: FastAPI, blocks: gr.Blocks, most_bytes: int) -> None:
    """Take the page's uploads in place of gradio, which names files as the client does."""

    @app.post("/gradio_api/upload", include_in_schema=False)
    async def upload(request: Request) -> list[str]:
        taken = []
        async with read_form(request, most_bytes, most_files=1) as form:
            for part in form.getlist("files"):
                if not isinstance(part, UploadFile):
                    raise HTTPException(400, "files holds no file; send one")
                ending = Path(part.filename or "").suffix.lower()
                folder = Path(get_upload_folder()) / secrets.token_hex(16)
                folder.mkdir(parents=True)
                path = folder / f"upload{ending if ending in _ENDINGS else ''}"
                path.write_bytes(await part.read())
                taken.append(str(path))
        blocks.upload_file_set.update(taken)
        return taken


def _path_of(payload: Any) -> str | None:
    """The file as it came, for the same checks and messages as everywhere."""
    return payload.path if payload else None


@dataclass(frozen=True)
class _Fields:
    """What a visitor gives."""

    image: gr.Image
    audio: gr.Audio
    prompt: gr.Textbox
    length: gr.Textbox
    steps: gr.Textbox
    seed: gr.Textbox

    @classmethod
    def show(cls, seconds: float) -> "_Fields":
        """Place them, for clips of that many seconds where nothing else is said."""
        image = gr.Image(label="Picture", sources=["upload", "clipboard"], height=240, buttons=[])
        audio = gr.Audio(label="Sound", sources=["upload", "microphone"], buttons=["download"])
        image.preprocess = audio.preprocess = _path_of
        prompt = gr.Textbox(label="What is seen and heard (optional)", max_lines=1)
        with gr.Accordion("Settings", open=False):
            length = gr.Textbox(label="Length", info=f"seconds, or full; empty: {seconds:g} s")
            steps = gr.Textbox(label="Steps", info="empty: the model's own number")
            seed = gr.Textbox(label="Seed", value="0")
        return cls(image, audio, prompt, length, steps, seed)


def _make_page(workshop: Workshop) -> gr.Blocks:
    size = workshop.pipeline.bundle.dimensions
    kept = round(workshop.limits.keep_seconds)
    with gr.Blocks(
        title="keyvid",
        analytics_enabled=False,
        delete_cache=(max(min(kept, 60), 1), kept),
    ) as blocks:
        gr.Markdown(
            "# keyvid\nAnimate a picture to a sound: things move when they are heard. "
            f"{workshop.pipeline.bundle.name} model, {size.width} x {size.height} pixels."
        )
        fill_in = _show_examples()
        with gr.Row():
            with gr.Column():
                fields = _Fields.show(size.frames / size.fps)
                make = gr.Button("Make the clip", variant="primary")
            with gr.Column():
                result = gr.HTML(_hint("The clip will be here."), elem_id="result")
                keyframes = gr.Textbox(
                    label="Keyframes",
                    value="auto",
                    info=f"auto, uniform or {size.keyframes} frame numbers, 0 first",
                )
                again = gr.Button("Make it again with these keyframes")
        shown_last = gr.State("")
        fill_in(fields)

        async def run(*inputs: Any) -> AsyncIterator[tuple[Any, Any, Any]]:
            async for shown in _make_clip(workshop, *inputs):
                yield shown

        for button, chosen in ((make, gr.State("auto")), (again, keyframes)):
            button.click(
                run,
                [*vars(fields).values(), chosen, shown_last],
                [result, keyframes, shown_last],
                api_visibility="private",
                concurrency_limit=_MOST_VISITORS,
                show_progress="hidden",
            )
    return blocks


def _show_examples() -> Callable[[_Fields], None]:
    """Place the examples; gives what lets a click on one fill in the fields."""
    examples = sorted(EXAMPLES.glob("*.png"))
    choice = gr.Dataset(
        components=["image"],
        samples=[[str(picture)] for picture in examples],
        label="Examples, to click on",
        type="index",
        visible=bool(examples),
    )

    def choose(index: int) -> tuple[str, str, str]:
        picture = examples[index]
        return str(picture), str(picture.with_suffix(".wav")), picture.stem

    def fill_in(fields: _Fields) -> None:
        choice.click(
            choose,
            choice,
            [fields.image, fields.audio, fields.prompt],
            api_visibility="private",
            show_progress="hidden",
        )

    return fill_in


async def _make_clip(
    workshop: Workshop,
    image: str | None,
    audio: str | None,
    prompt: str,
    length: str,
    steps: str,
    seed: str,
    keyframes: str,
    shown_last: str,
) -> AsyncIterator[tuple[Any, Any, Any]]:
    """What to show in place of the result, the keyframes, and the job that is shown, as it goes."""
    if last := workshop.find(shown_last):
        workshop.discard(last)
    job = None
    try:
        fields = {"prompt": prompt, "length": length, "steps": steps, "seed": seed}
        order = await _order(workshop, image, audio, {**fields, "keyframes": keyframes})
        job = workshop.submit(order)
        while not job.has_ended:
            yield _hint(_how_far(job, workshop)), gr.skip(), gr.skip()
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        if job.state != "done":
            raise MediaError(job.error)
        yield _show(job), job.keyframes or gr.skip(), job.id
    except KeyvidError as error:
        yield _problem(str(error)), gr.skip(), ""
    finally:
        if job and job.state != "done":  # the visitor has left, or it failed
            workshop.discard(job)


async def _order(
    workshop: Workshop, image: str | None, audio: str | None, fields: dict[str, str]
) -> Order:
    if not image or not audio:
        missing = [name for name, file in (("picture", image), ("sound", audio)) if not file]
        raise MediaError(
            f"there is no {' and no '.join(missing)}; drop one, or click on an example"
        )
    picture, sound = [io.BytesIO(await anyio.Path(name).read_bytes()) for name in (image, audio)]
    return await workshop.take(picture, sound, parse_fields(fields))


def _how_far(job: Job, workshop: Workshop) -> str:
    if job.state == "queued":
        return f"Waiting: {workshop.place(job)} clips are made before."
    part = f"part {job.segment + 1} of {job.num_segments}, " if job.num_segments > 1 else ""
    step = f"{job.stage} {job.step} of {job.num_steps}" if job.stage else "begins"
    left = "" if job.seconds_left is None else f", {duration_text(job.seconds_left)} left"
    return f"Making: {part}{step}{left}."


def _hint(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _problem(text: str) -> str:
    return f'<p role="alert"><b>This does not work.</b> {html.escape(text)}</p>'


def _show(job: Job) -> str:
    """The clip to play and to download, what there is to say of it, and its plot."""
    here = f"clips/{job.id}"
    remarks = "".join(map(_hint, job.remarks))
    return (
        f'<video src="{here}/{CLIP}" controls autoplay loop playsinline></video>'
        f'<p><a href="{here}/{CLIP}" download>Download the clip</a> · '
        f'<a href="{here}/{REPORT}" target="_blank">report</a></p>{remarks}'
        f'<a href="{here}/{PLOT}" target="_blank">'
        f'<img src="{here}/{PLOT}" alt="Sound, motion curve with keyframes, all frames"></a>'
    )
