"""Sounds of files, as `keyvid.runtime.media.decoder` reads them."""

from typing import IO, Any

import numpy as np
import numpy.typing as npt

from keyvid.remarks import remark
from keyvid.runtime.media import sound_av, sound_libsndfile
from keyvid.runtime.media.sound_tracks import check_count


def read(
    file: IO[bytes], name: str, seconds: float | None, start: float, track: int | None
) -> tuple[dict[str, Any], npt.NDArray[np.float32]]:
    """Rate and duration, and the samples of the wanted part; see `sound_timeline.Excerpt`.

    Raises:
        MediaError, SettingsError: what is wrong with it.
    """
    excerpt = sound_libsndfile.read(file, name, seconds, start)
    if excerpt:
        check_count(name, track or 1, 1)
    else:
        if sound_libsndfile.is_unfinished(file):
            remark(f"{name}: its recording was not ended; it is read to the file's end")
        excerpt = sound_av.read(sound_av.Film(file, name, track), seconds, start)
    samples, rate, duration = excerpt
    return {"rate": rate, "duration": duration, "shape": samples.shape}, samples


def duration(
    file: IO[bytes], name: str, track: int | None
) -> tuple[dict[str, Any], npt.NDArray[np.float32] | None]:
    """Seconds from the beginning of a file's clock to the end of its sound."""
    seconds = sound_libsndfile.duration(file)
    if seconds is None:
        seconds = sound_av.duration(sound_av.Film(file, name, track))
    return {"duration": seconds}, None
