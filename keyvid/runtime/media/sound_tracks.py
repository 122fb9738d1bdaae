"""The sounds of a container, and which of them is heard."""

from typing import Any

from keyvid.errors import MediaError, SettingsError
from keyvid.remarks import remark
from keyvid.runtime.media.ffmpeg import SOUND_CODECS, is_of


def check_track(track: object) -> int | None:
    """The number of a track as people write it, from 1; None for the default one.

    Raises:
        SettingsError: it is no such number.
    """
    if track is None:
        return None
    if isinstance(track, bool) or not isinstance(track, int) or track < 1:
        raise SettingsError(
            f"track is {str(track)[:40]}; want the number of one of the file's sounds, from 1"
        )
    return track


def choose_track(container: Any, name: str, track: int | None) -> Any:
    """The stream of the track of this number, or the default one; else the first that is known.

    Raises:
        MediaError: there is no sound, or none that can be decoded.
        SettingsError: there is no such track.
    """
    sounds = container.streams.audio
    if not sounds:
        raise MediaError(f"{name}: has no sound; give a sound, or a video that has one")
    if track is not None:
        check_count(name, track, len(sounds))
        sounds = sounds[track - 1 : track]
    known = [stream for stream in sounds if is_of(stream, SOUND_CODECS)]
    if not known:
        raise MediaError(f"{name}: its sound has a codec that is not known here; convert it to WAV")
    return next((stream for stream in known if _is_default(stream)), known[0])


def check_count(name: str, track: int, num_tracks: int) -> None:
    """Refuse the number of a track that a file does not have."""
    if track > num_tracks:
        raise SettingsError(
            f"{name}: track is {track}, and the number of its sounds {num_tracks}; choose another"
        )


def say_which(container: Any, name: str, chosen: Any) -> None:
    """Where there was a choice that nobody made, name the track that is heard and the others."""
    sounds = container.streams.audio
    if len(sounds) < 2:
        return
    described = {stream.index: _described(n, stream) for n, stream in enumerate(sounds, 1)}
    heard = described.pop(chosen.index)
    others = ", ".join(described.values())
    remark(f"{name}: has {len(sounds)} sounds; track {heard} is heard, not {others}")


def _is_default(stream: Any) -> bool:
    return bool(stream.disposition & type(stream.disposition).default)


def _described(number: int, stream: Any) -> str:
    """Such as "2 (eng, Commentary, stereo)"."""
    words = [stream.metadata.get(key, "") for key in ("language", "title")]
    if stream.codec_context is not None:
        words.append(stream.layout.name)
    said = ", ".join("".join(filter(str.isprintable, word))[:40] for word in words if word)
    return f"{number} ({said})" if said else str(number)
