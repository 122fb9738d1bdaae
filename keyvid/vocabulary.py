"""What may be asked of a clip: each choice is stated here once, with its words and its default.

`Request`, the command line's options, the keys of job files, form fields and reports follow the
fields of `ClipChoices` and `Outputs`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, get_args

from keyvid.containers import CONTAINERS
from keyvid.options import Option
from keyvid.sampling import Settings
from keyvid.sampling import options as sampling_options

Fit = Literal["crop", "pad"]

_KINDS = ", ".join(kind.title for kind in CONTAINERS.values())


def _choice(
    default: Any,
    kind: type,
    text: str,
    *,
    choices: tuple[str, ...] = (),
    in_words: str | None = None,
    is_file: bool = False,
) -> Any:
    """A field with the words of its option; `in_words` is its default for people."""
    shown = str(default) if in_words is None else in_words
    return field(default=default, metadata={"option": (kind, choices, text, shown, is_file)})


@dataclass(frozen=True, kw_only=True)
class ClipChoices:
    """What may be chosen of a clip besides its picture and its sound.

    Attributes:
        prompt: what is seen and heard, "" or None for nothing.
        start: second of the sound to begin at, or a time such as "1:02.5".
        length: seconds, "full" for all that the sound has, None for what the networks know.
        track: which of the sounds of a file, from 1; None for the one that is its default.
        fit, position: how a picture of other proportions is cropped or padded.
        keyframes: "auto" (from the motion), "uniform", frame numbers such as "0,4,8", or the name
            of a file of them, such as the release writes.
        motion: how much should move in each frame: "auto" (the bundle's localizer hears it),
            "packaged" (that of the packaged model does), a value for each frame, rows of a time in
            seconds and a value, or the name of a .npy, .csv or .json file of either; a report's
            curve, too.
        beats: seconds of the clip at which something happens, from which motion is drawn.
        seed: of all noise; the same seed gives the same clip on each engine up to rounding.
        settings: sampling settings that differ from the bundle's defaults.
    """

    prompt: str | None = _choice("", str, "What is seen and heard, in a few words", in_words="none")
    start: float | str = _choice(
        0.0, str, "Where in the sound to begin: seconds, or as 1:02.5", in_words="0"
    )
    length: float | str | None = _choice(
        None, str, "Seconds, or as 1:02.5, or full", in_words="as long as the networks' window"
    )
    track: int | None = _choice(
        None, int, "Which of the sounds of a film or file, from 1", in_words="its default one"
    )
    fit: Fit = _choice(
        "crop", str, "crop the picture, or pad it to show all of it", choices=get_args(Fit)
    )
    position: str | tuple[float, float] = _choice(
        "centre", str, "Of the crop: centre, top, bottom, left, right or x,y from 0 to 1"
    )
    keyframes: str = _choice("auto", str, "auto, uniform, 0,3,... or a file of them")
    motion: Any = _choice(
        "auto",
        str,
        "What moves when: auto is heard in the sound, packaged the same by the packaged model; or "
        "a value a frame as 0,0.3,... or a .npy, .csv or .json of them",
    )
    beats: str | Sequence[float] | None = _choice(
        None, str, "Seconds of the clip at which something happens, as 0.5,1.2", in_words="none"
    )
    seed: int = _choice(0, int, "Of all noise: same seed, same clip")
    settings: Settings = Settings()


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files that come of a clip.

    Attributes:
        output: name of the clip, which says what kind of file it becomes; "-" for standard output.
        scale: how many times larger the clip is written.
        report, plot: files to write too, None for none.
    """

    output: str = _choice(
        "",
        str,
        f"{_KINDS} or folder/ to write, - for standard output",
        in_words="IMAGE's name with .mp4",
        is_file=True,
    )
    scale: int = _choice(1, int, "How many times larger to write the clip")
    report: str | None = _choice(
        None,
        str,
        "JSON to write: timings, memory, versions, settings",
        in_words="none",
        is_file=True,
    )
    plot: str | None = _choice(
        None,
        str,
        "PNG to write: sound, motion, keyframes, all frames",
        in_words="none",
        is_file=True,
    )

    @property
    def names(self) -> list[str]:
        """The files that are written, in this order."""
        return [name for name in (self.output, self.report, self.plot) if name]


def options() -> Iterator[Option]:
    """All that may be chosen of a clip and its files, sampling included."""
    for choice in (*_choices(ClipChoices), *_choices(Outputs)):
        yield Option(choice.name, *choice.metadata["option"])
    yield from sampling_options()


def names_of_choices() -> list[str]:
    """The fields of `ClipChoices` that are chosen by their own name."""
    return [choice.name for choice in _choices(ClipChoices)]


def _choices(kind: type) -> list[Field[Any]]:
    return [choice for choice in fields(kind) if choice.metadata]
