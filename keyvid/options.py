"""An option of a clip, however it is given: command line, job file or form."""

from dataclasses import dataclass
from typing import Any

# What a value should be, in words.
WANTED = {int: "a whole number", float: "a number", str: "a text or a number"}


@dataclass(frozen=True)
class Option:
    """An option of a clip.

    Attributes:
        name: such as "steps", "interpolator_steps" or "temporal".
        kind: int, float or str.
        choices: the valid values of a str, () if any value may be given.
        help: its help text.
        default: description of its default; "" if the bundle decides.
        is_file: whether it names a file to write.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    help: str
    default: str = ""
    is_file: bool = False

    @property
    def dashed(self) -> str:
        """The name as command line and forms write it."""
        return self.name.replace("_", "-")

    def value_of(self, text: str) -> Any:
        """Parse a value; whether it is one of `choices` is checked later.

        Raises:
            ValueError: says what it should be.
        """
        try:
            return self.kind(text.strip())
        except ValueError:
            raise ValueError(f"want {WANTED[self.kind]}") from None
