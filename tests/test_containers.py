"""A container is one row: whoever writes, checks or describes clips reads the table."""

from pathlib import Path

import av
import numpy as np
import pytest

from keyvid import containers
from keyvid.runtime.media.outputs import check_clip_output
from keyvid.runtime.media.sound import Sound
from keyvid.runtime.media.video import write_video

ROOT = Path(__file__).parents[1]


def test_a_new_row_is_all_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mp4 = containers.CONTAINERS[".mp4"]
    row = containers.Container("MOV", "mov", *(getattr(mp4, n) for n in ("codec", "options")), {})
    monkeypatch.setitem(containers.CONTAINERS, ".mov", row)
    clip = tmp_path / "clip.mov"
    check_clip_output(clip)
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    write_video(clip, frames, 24, Sound(np.zeros((2_000, 1), np.float32), 16_000))
    with av.open(clip) as video:
        assert "mov" in video.format.name
        assert sum(1 for _ in video.decode(video=0)) == 3


def test_the_readme_names_them_all() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [ending for ending in containers.CONTAINERS if f"`{ending}`" not in readme] == []
