"""Files that belong to others, locks, and what killed processes leave."""

import os
from pathlib import Path

import pytest

from keyvid.file_safety import beside, locked_folder, temporary_file, temporary_folder, write_whole


def test_names_beside_others_are_never_too_long(tmp_path: Path) -> None:
    assert beside(tmp_path / "a.mp4", ".", ".parts") == tmp_path / ".a.mp4.parts"
    longest = [tmp_path / ("x" * 251 + ".mp4"), tmp_path / ("ä" * 125 + "x.mp4")]
    assert [len(os.fsencode(path.name)) for path in longest] == [255, 255]
    for path in longest:
        beside(path, ".", ".parts").mkdir()
    assert len([*tmp_path.iterdir()]) == 2


def test_a_locked_folder_is_locked(tmp_path: Path) -> None:
    with locked_folder(tmp_path), pytest.raises(BlockingIOError), locked_folder(tmp_path):
        pass
    with locked_folder(tmp_path):
        pass


def test_what_is_in_use_is_not_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".keyvid-0123.tmp").write_bytes(b"of a process that was killed")
    (tmp_path / ".keyvid-4567.tmp").mkdir()
    (tmp_path / ".keyvid-notes").write_bytes(b"mine")
    with temporary_file(tmp_path) as (_, first), temporary_folder(tmp_path) as second:
        write_whole(tmp_path / "a", b"whole")
        assert {path.name for path in tmp_path.iterdir()} == {
            "a",
            ".keyvid-notes",
            first.name,
            second.name,
        }
    assert {path.name for path in tmp_path.iterdir()} == {"a", ".keyvid-notes"}
