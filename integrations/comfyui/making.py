"""Clips that are made in this process."""

from io import BytesIO
from threading import Lock
from typing import Any

from keyvid import Pipeline
from keyvid.runtime.networks.stages import SEGMENT
from keyvid.runtime.report import make_report
from keyvid.runtime.request import request_from

from .work import Work, progress_of_node

_lock = Lock()
_open: dict[tuple[str, str], Pipeline] = {}


def made_here(work: Work, bundle: str, engine: str) -> tuple[bytes, dict[str, Any]]:
    """MP4 and report of a clip; the networks of the last bundle and engine stay open.

    Raises:
        KeyvidError: what is wrong with the inputs, in a line.
        InterruptProcessingException: the user has pressed Cancel.
    """
    with _lock:
        pipeline = _pipeline(bundle, engine)
        choices = work.choices if work.end is None else {**work.choices, "end": work.end}
        prepared = pipeline.prepare(request_from(work.picture, work.sound, choices))
        show, segments = progress_of_node(), [0, 1]

        def progress(stage: str, done: int, total: int) -> None:
            if stage == SEGMENT:
                segments[:] = done, total
            else:
                show(stage, done, total, *segments)

        clip = pipeline.make(prepared, progress)
        video = BytesIO()
        receipt = clip.save(video)
        report = make_report(clip, pipeline, {}, receipt, tell_path=False)
    return video.getvalue(), report


def _pipeline(bundle: str, engine: str) -> Pipeline:
    wanted = bundle, engine
    if wanted not in _open:
        while _open:
            _open.popitem()[1].close()
        _open[wanted] = Pipeline.load(bundle, engine)
    return _open[wanted]
