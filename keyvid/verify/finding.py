"""What is found of a clip, part by part."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Part = Literal[
    "receipt",
    "credentials",
    "mark",
    "file",
    "pictures",
    "sound",
    "inputs",
    "bundle",
    "engine",
    "stages",
    "again",
]
NO_RECEIPT = "there is none"
# "good": as the receipt says; "noted": another thing, which contradicts nothing; "bad": it does.
Verdict = Literal["good", "noted", "bad"]


@dataclass(frozen=True)
class Finding:
    """What is found of a part of a clip, in words that follow its name."""

    part: Part
    verdict: Verdict
    text: str


def summary(findings: Iterable[Finding]) -> str:
    """The whole in one line: what is bad, or else the best that was shown."""
    found = {finding.part: finding for finding in findings}
    bad, noted = (
        ", ".join(part for part, finding in found.items() if finding.verdict == verdict)
        for verdict in ("bad", "noted")
    )
    if "receipt" in found and found["receipt"].text == NO_RECEIPT:
        return "it has no receipt: nothing to compare it with"
    if bad:
        return f"not what its receipt says: {bad}"
    if "again" in found:
        return f"made again: {found['again'].text}"
    if noted:
        return f"nothing contradicts its receipt; not as it was written: {noted}"
    return "as it was written; --image and --audio make it again"


def format_findings(findings: Iterable[Finding]) -> str:
    """A line for each, those that are bad marked."""
    signs = {"good": " ", "noted": "-", "bad": "!"}
    return "".join(f"{signs[one.verdict]} {one.part:<12} {one.text}\n" for one in findings)
