"""What a clip tells by itself: whether it still is what its receipt says was written."""

from collections.abc import Iterator, Sequence
from typing import Literal

from keyvid.errors import KeyvidError, ProvenanceError
from keyvid.provenance.credentials import Credentials
from keyvid.provenance.likeness import (
    CELLS,
    picture_difference,
    sound_difference,
    unpack,
    window_seconds,
)
from keyvid.provenance.mark import is_marked
from keyvid.provenance.receipt import (
    Packets,
    Receipt,
    ReceiptError,
    differing_fields,
    read_receipt,
)
from keyvid.provenance.sequence import Comparison, compare
from keyvid.verify.clip import ClipFile
from keyvid.verify.finding import NO_RECEIPT, Finding

# Of 255 in a cell, and decibels: what encoding anew hardly reaches, and another scene passes.
_LIKE_PICTURE, _LIKE_SOUND_DB = 6.0, 4.0
_SHOWN = 5  # numbers in a line


def inspect_clip(clip: ClipFile, text: str) -> tuple[Receipt | None, list[Finding]]:
    """The receipt of a clip, as far as it can be read, and what is found of the clip.

    Args:
        text: the receipt, its own or that of its report; "" for none.
    """
    signed, is_signed, findings = "", False, []
    try:
        if credentials := clip.credentials():
            is_signed = not credentials.problems
            signed = credentials.receipt or "" if is_signed else ""
            findings.append(_of_credentials(credentials))
    except ProvenanceError as error:
        findings.append(Finding("credentials", "bad", str(error)))
    if not text and not signed:
        return None, [Finding("receipt", "bad", NO_RECEIPT), *findings]
    try:
        receipt = read_receipt(text or signed)
    except ReceiptError as error:
        return None, [Finding("receipt", "bad", str(error)), *findings]
    first = _of_receipt(receipt, text, signed)
    return receipt, [first, *findings, *_of_content(clip, receipt, is_signed)]


def _of_credentials(credentials: Credentials) -> Finding:
    if credentials.problems:
        return Finding("credentials", "bad", f"not valid: {', '.join(credentials.problems)}")
    trust = "" if credentials.is_known else ", who is in no list of trust"
    return Finding("credentials", "good", f"valid, signed by {credentials.signer}{trust}")


def _of_content(clip: ClipFile, receipt: Receipt, is_signed: bool) -> list[Finding]:
    """What is found of the file, its pictures, its sound and its mark.

    Args:
        is_signed: whether it has valid credentials.
    """
    wanted = receipt.writing
    pictures = _compare(wanted.pictures, clip.pictures)
    sounds = _compare_sounds(wanted.sounds, clip.sounds)
    findings = [*_of_pictures(clip, receipt, pictures), *_of_sounds(clip, receipt, sounds)]
    marked = is_marked(clip.marks)
    mark = "says that a model made it" if marked else "there is none that says that a model made it"
    findings.append(Finding("mark", "good" if marked else "noted", mark))
    streams = [one.fate for one in (pictures, sounds) if one]
    return [_of_file(clip, receipt, streams, is_signed), *findings]


def _of_receipt(receipt: Receipt, text: str, signed: str) -> Finding:
    if receipt.broken:
        return Finding("receipt", "bad", f"was changed: {', '.join(receipt.broken)}")
    if text and signed and (fields := differing_fields(text, signed)):
        return Finding("receipt", "bad", f"is not the one that was signed: {', '.join(fields)}")
    making = receipt.making
    engine, bundle = making.engine, making.bundle
    made = (
        f"keyvid {making.keyvid}, {bundle.name}, {engine.name} ({engine.precision}), "
        f"seed {making.seed}"
    )
    return Finding("receipt", "good", made)


def _of_file(clip: ClipFile, receipt: Receipt, streams: Sequence[str], is_signed: bool) -> Finding:
    if clip.digest() == receipt.writing.file:
        return Finding("file", "good", "as it was written, every byte")
    if not set(streams) <= {"same"}:
        return Finding("file", "noted", "not as it was written")
    if is_signed:
        return Finding("file", "good", "as it was signed, every byte")
    text = (
        "container or metadata are not as they were written: copied into another container, or "
        "changed"
    )
    return Finding("file", "noted", text)


def _of_pictures(clip: ClipFile, receipt: Receipt, found: Comparison) -> Iterator[Finding]:
    total = len(receipt.writing.pictures.split())
    if found.fate == "anew":
        making = receipt.making
        try:
            seen, times = clip.likeness()
            cells = unpack(receipt.writing.look).reshape(-1, CELLS)
            apart = picture_difference(cells, making.num_frames, making.fps, seen, times)
        except (KeyvidError, ValueError, IndexError) as error:
            yield Finding("pictures", "bad", f"changed: cannot be looked at ({error})")
            return
        difference = f"the same (they differ by {apart:.1f} of 255 in coarse cells)"
        if apart <= _LIKE_PICTURE:
            yield Finding("pictures", "noted", f"encoded or packed anew, and look {difference}")
        else:
            yield Finding("pictures", "bad", f"others than the receipt's, not {difference}")
    else:
        yield _of_packets("pictures", found, total)


def _of_sounds(clip: ClipFile, receipt: Receipt, found: Comparison | None) -> Iterator[Finding]:
    wanted = receipt.writing.sounds
    if found is None:
        return
    if wanted is None:
        yield Finding("sound", "noted", "was added: the receipt's clip has none")
    elif found.fate == "anew":
        seconds = receipt.making.num_frames / receipt.making.fps
        try:
            heard = clip.levels(window_seconds(seconds))
            apart = sound_difference(unpack(receipt.writing.loudness), heard)
        except (KeyvidError, ValueError) as error:
            yield Finding("sound", "bad", f"changed: cannot be heard ({error})")
            return
        difference = f"(their levels differ by {apart:.1f} dB)"
        if apart <= _LIKE_SOUND_DB:
            yield Finding("sound", "noted", f"encoded or packed anew, and as loud {difference}")
        else:
            yield Finding("sound", "bad", f"another than the receipt's {difference}")
    else:
        yield _of_packets("sound", found, len(wanted.split()))


def _of_packets(name: Literal["pictures", "sound"], found: Comparison, total: int) -> Finding:
    """What became of a stream of which at least a packet is left, or none is there."""
    if found.fate == "same":
        return Finding(name, "good", "as they were encoded" if name == "pictures" else "as it was")
    if found.fate == "missing":
        return Finding(name, "noted", "was removed")
    if found.fate == "cut":
        return Finding(name, "noted", f"cut: {found.kept} of {total} packets, none changed")
    numbers = ", ".join(str(number + 1) for number in found.changed[:_SHOWN])
    more = " and others" if len(found.changed) > _SHOWN else ""
    where = f"packet {numbers}{more} of {total}" if found.changed else "their order"
    return Finding(name, "bad", f"changed: {where}")


def _compare(wanted: Packets, found: Packets) -> Comparison:
    seen = compare(wanted.split(), found.split())
    if seen.fate == "same" and found.digest != wanted.digest:  # made to begin alike
        return Comparison("changed", 0)
    return seen


def _compare_sounds(wanted: Packets | None, found: Packets | None) -> Comparison | None:
    """None where neither has any."""
    if wanted is None:
        return Comparison("anew", 0) if found else None
    return _compare(wanted, found) if found else Comparison("missing", 0)
