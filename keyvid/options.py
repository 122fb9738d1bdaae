"""An option: something about a clip that may be chosen, by whatever way it is asked for."""

from dataclasses import dataclass
from typing import Any

# What a value should be, in words.
WANTED = {int: "a whole number", float: "a number", str: "a text or a number"}


@dataclass(frozen=True)
class Option:
    """Something about a clip that may be chosen.

    Attributes:
        name: such as "steps", "interpolator_steps" or "temporal".
        kind: int, float or str.
        choices: the valid texts of a str, () where there is no list of them.
        help: what it is.
        default: what holds where it is not given, in words; "" where the bundle says it.
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
        """The name as the command line and forms have it."""
        return self.name.replace("_", "-")

    def value_of(self, text: str) -> Any:
        """The value that a text stands for; whether it is one of `choices` is seen later.

        Raises:
            ValueError: says what it should be.
        """
        try:
            return self.kind(text.strip())
        except ValueError:
            raise ValueError(f"want {WANTED[self.kind]}") from None
