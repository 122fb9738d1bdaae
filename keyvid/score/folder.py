"""A folder of videos, scored: those with known events, and all by AV-Align where that is wanted."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from keyvid.counting import counted
from keyvid.errors import MediaError
from keyvid.runtime.media.sources import shown
from keyvid.score.av_align import Alignment, align_video, format_alignments
from keyvid.score.film import has_facts, list_videos, read_each, read_films
from keyvid.score.plot import MotionPanel, motion_panel
from keyvid.score.report import format_scores
from keyvid.score.results import Observation, observe, to_json


@dataclass(frozen=True)
class FolderScores:
    """What was found of the videos of a folder.

    Attributes:
        num_videos, num_skipped: how many there are, and how many could not be scored.
        alignments: None where they were not wanted.
        panels: of the first clips, as many as were wanted.
    """

    num_videos: int
    num_skipped: int
    clips: list[Observation]
    alignments: list[Alignment] | None
    panels: list[MotionPanel]

    def __str__(self) -> str:
        """All tables."""
        tables = [format_scores(self.clips)] if self.clips else []
        if self.alignments is not None:
            tables.append(format_alignments(self.alignments))
        return "\n".join(tables)

    def to_json(self) -> dict[str, Any]:
        """Scores and detected strikes as JSON values."""
        result = to_json(self.clips) if self.clips else {"clips": []}
        if self.alignments is not None:
            result["av_align"] = {clip.name: clip.value for clip in self.alignments}
        return result


def score_folder(folder: Path, *, with_av_align: bool, num_panels: int) -> FolderScores:
    """Score the videos of a folder, one in memory at a time, with a bar on stderr.

    Args:
        num_panels: how many clips are to be drawn, at most.
    Raises:
        MediaError: none of them can be scored.
    """
    names = list_videos(folder)
    alignments = list(read_each(names, align_video)) if with_av_align else None
    known = names if alignments is None else [name for name in names if has_facts(name)]
    clips: list[Observation] = []
    panels: list[MotionPanel] = []
    with click.progressbar(known, label="videos", file=sys.stderr) as videos:
        for film in read_films(videos):
            clips.append(observe(film))
            if len(panels) < num_panels:
                panels.append(motion_panel(film, clips[-1]))
    unread = 0 if alignments is None else len(names) - len(alignments)
    num_skipped = max(unread, len(known) - len(clips))
    if not clips and not alignments:
        raise MediaError(
            f"{shown(folder)}: has {counted(num_skipped, 'video')}, of which none can be scored, "
            "see above"
        )
    return FolderScores(len(names), num_skipped, clips, alignments, panels)
