"""The options of a clip, each defined once, with its help text and default.

`Request`, the command line, job files, form fields and reports all derive from the fields of
`ClipChoices` and `Outputs`.
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
    """A field with the help text of its option; `in_words` describes its default."""
    shown = str(default) if in_words is None else in_words
    return field(default=default, metadata={"option": (kind, choices, text, shown, is_file)})


@dataclass(frozen=True, kw_only=True)
class ClipChoices:
    """The options of a clip, besides its picture and its sound.

    Attributes:
        prompt: what is seen and heard; "" or None for no prompt.
        start: where in the sound to begin, in seconds or as a time such as "1:02.5".
        length: seconds; "full" for the rest of the sound; None for the networks' window.
        track: which sound track of the file, from 1; None for its default track.
        fit, position: how a picture of another aspect ratio is cropped or padded.
        keyframes: "auto" (from the motion), "uniform", frame numbers such as "0,4,8", or the name
            of a file of frame numbers, such as the release writes.
        motion: how much should move in each frame: "auto" (predicted by the bundle's localizer),
            "packaged" (by the packaged model's localizer), one value per frame, rows of a time in
            seconds and a value, or the name of a .npy, .csv or .json file of either, such as a
            report.
        end: picture of the last frame, given as that of the first, or "first" for that one again: a
            loop. None to let the clip end as it does.
        beats: times in the clip, in seconds, at which something happens; motion and keyframes
            follow from them, so that neither is given, too. The networks hear the sound with its
            events moved there, the clip keeps it as it is.
        seed: random seed; the same seed gives the same clip on every engine, up to rounding.
        settings: sampling settings that differ from the bundle's defaults.
    """

    prompt: str | None = _choice(
        "", str, "Prompt: what is seen and heard, in a few words", in_words="none"
    )
    start: float | str = _choice(
        0.0, str, "Where in the sound to begin: seconds, or a time such as 1:02.5", in_words="0"
    )
    length: float | str | None = _choice(
        None,
        str,
        "Length of the clip: seconds, a time such as 1:02.5, or full",
        in_words="the networks' window",
    )
    track: int | None = _choice(
        None, int, "Sound track of the file to use, from 1", in_words="its default track"
    )
    fit: Fit = _choice(
        "crop", str, "Crop the picture, or pad it to show all of it", choices=get_args(Fit)
    )
    position: str | tuple[float, float] = _choice(
        "centre", str, "Part to keep: centre, top, bottom, left, right or x,y from 0 to 1"
    )
    end: Any = _choice(
        None,
        str,
        "Picture of the last frame, or first for a loop: the first one again",
        in_words="none",
    )
    keyframes: str = _choice(
        "auto", str, "auto, uniform, frame numbers (0,3,...) or a .npy, .csv or .json file of them"
    )
    motion: Any = _choice(
        "auto",
        str,
        "How much moves when: auto (predicted from the sound), packaged (the same, by the packaged "
        "model), one value per frame (0,0.3,...), or a .npy, .csv or .json file",
    )
    beats: str | Sequence[float] | None = _choice(
        None, str, "Seconds at which something happens, such as 0.5,1.2", in_words="none"
    )
    seed: int = _choice(0, int, "Random seed: the same seed gives the same clip")
    settings: Settings = Settings()


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files that are written for a clip.

    Attributes:
        output: file name of the clip, whose suffix decides the format; "-" for standard output.
        scale: factor by which the clip is enlarged.
        report, plot: further files to write, None for none.
        receipt: whether the clip's file says how it was made.
        signer: who signs it, a `keyvid.provenance.credentials.Signer`; None for nobody.
    """

    output: str = _choice(
        "",
        str,
        f"File to write: {_KINDS}, a folder/ of PNGs, or - for standard output",
        in_words="IMAGE's name with .mp4",
        is_file=True,
    )
    scale: int = _choice(1, int, "Enlarge the clip by this factor")
    report: str | None = _choice(
        None,
        str,
        "JSON file to write: timings, memory, versions, settings",
        in_words="none",
        is_file=True,
    )
    plot: str | None = _choice(
        None,
        str,
        "PNG file to write: sound, motion, keyframes, all frames",
        in_words="none",
        is_file=True,
    )
    receipt: bool = True
    signer: Any = None

    @property
    def names(self) -> list[str]:
        """The names of the files, in the order in which they are written."""
        return [name for name in (self.output, self.report, self.plot) if name]


def options() -> Iterator[Option]:
    """All options of a clip and its files, sampling included."""
    for choice in (*_choices(ClipChoices), *_choices(Outputs)):
        yield Option(choice.name, *choice.metadata["option"])
    yield from sampling_options()


def names_of_choices() -> list[str]:
    """The fields of `ClipChoices` that are options of their own; `settings` is not."""
    return [choice.name for choice in _choices(ClipChoices)]


def _choices(kind: type) -> list[Field[Any]]:
    return [choice for choice in fields(kind) if choice.metadata]
