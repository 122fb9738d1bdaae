"""What an export takes of disk and memory, told before it begins; refused where it cannot fit."""

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyvid.bundle.specs import Precision
from keyvid.engines.memory import available_bytes
from keyvid.errors import SettingsError
from keyvid.export.hub import HubFile, default_folder
from keyvid.export.source import TOKENIZER, Source, parts
from keyvid.sizes import format_size
from keyvid_ref.weights import outline_network

# Graphs and tokenizer beside the weights: below 1 % at the published size.
_GRAPHS = 1.02
# Most that is resident, for each byte of the largest network in float32: 14.2 and 6.6 GB were
# measured with the interpolator's 5.87 GB, see docs/performance.md.
_VERIFIED, _UNVERIFIED, _BASE_BYTES = 2.4, 1.1, 500_000_000


@dataclass(frozen=True)
class Room:
    """Bytes that an export takes at most at one time.

    Attributes:
        downloads: beside what has been downloaded already; below 0 where that goes.
        bundle: of weights and graphs that are still to be written.
        both: of both together.
        memory: resident.
    """

    downloads: int
    bundle: int
    both: int
    memory: int

    def check(self, out: Path, *, drop_downloads: bool, verify: bool) -> None:
        """Refuse what cannot fit.

        Raises:
            SettingsError: says what there is, what it takes, and what would take less.
        """
        places = {"downloads": _existing(default_folder()), "bundle": _existing(out)}
        is_one = len({_device(place) for place in places.values()}) == 1
        needs = {"bundle": self.both} if is_one else vars(self)
        for name, place in places.items():
            free = shutil.disk_usage(place).free
            if (need := needs.get(name, 0)) > free:
                what = "downloads and bundle" if is_one else name
                less = "" if drop_downloads else "add --drop-downloads, "
                raise SettingsError(
                    f"{place}: {what} take {format_size(need)} more, {format_size(free)} are free; "
                    f"make room, {less}choose another disk with --out and XDG_CACHE_HOME, or "
                    "export fewer stages at a time with --stage"
                )
        if self.memory > (free := available_bytes()):
            less = "add --no-verify, " if verify else ""
            raise SettingsError(
                f"the export takes {format_size(self.memory)} of memory, {format_size(free)} are "
                f"free; close other programs, {less}or export where there is more"
            )


def plan_room(
    source: Source,
    stages: Sequence[str],
    written: Collection[str],
    *,
    precision: Precision,
    verify: bool,
    drop_downloads: bool,
) -> Room:
    """What it takes to export `stages`.

    Args:
        written: parts of them that are in the bundle already.
        drop_downloads: as for `build_bundle`.
    """
    networks = {part for stage in stages for part in parts(stage)} - {TOKENIZER}
    counts = {name: _count_weights(source, name) for name in networks}
    width = 2 if precision == "fp16" else 4
    weights = {name: round(_GRAPHS * width * count) for name, count in counts.items()}
    moments = [*_moments(source, stages, set(written), weights)]
    if not drop_downloads:
        moments = [_all_at_once(source, stages, set(written), weights)]
    largest = 4 * max(counts.values(), default=0)
    return Room(
        downloads=max(downloads for downloads, _ in moments),
        bundle=max(bundle for _, bundle in moments),
        both=max(downloads + bundle for downloads, bundle in moments),
        memory=round(_BASE_BYTES + (_VERIFIED if verify else _UNVERIFIED) * largest),
    )


def unread_files(source: Source, parts_left: Iterable[str]) -> dict[str, HubFile]:
    """The downloads that parts still to be written are read from, by what they are."""
    names = {name for part in parts_left for name in source.origin.needs(part)}
    return {name: file for name, file in source.origin.downloads.items() if name in names}


def _all_at_once(
    source: Source, stages: Sequence[str], written: set[str], weights: Mapping[str, int]
) -> tuple[int, int]:
    """Bytes of all downloads that are missing, and of all that is to be written."""
    left = {part for stage in stages for part in parts(stage)} - written
    files = unread_files(source, left).values()
    missing = sum(file.bytes - file.bytes_here for file in files)
    return missing, sum(weights.get(part, 0) for part in left)


def _moments(
    source: Source, stages: Sequence[str], written: set[str], weights: Mapping[str, int]
) -> Iterator[tuple[int, int]]:
    """The same while each stage is exported, if downloads come and go one by one.

    Those that have gone, and were there before, leave room for others.
    """
    here: dict[str, HubFile] = {}
    freed = bundle = 0
    for index, stage in enumerate(stages):
        new = set(parts(stage)) - written
        here |= unread_files(source, new)
        bundle += sum(weights.get(part, 0) for part in new)
        written = written | new
        yield sum(file.bytes - file.bytes_here for file in here.values()) - freed, bundle
        later = {part for name in stages[index + 1 :] for part in parts(name)} - written
        for name in here.keys() - unread_files(source, later).keys():
            freed += here.pop(name).bytes_here


def _count_weights(source: Source, network: str) -> int:
    outline = outline_network(source.preset, network).state_dict()
    return sum(weight.numel() for weight in outline.values())


def _device(path: Path) -> int:
    return path.stat().st_dev


def _existing(path: Path) -> Path:
    """The folder that `path` lies in or will, as far as it is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
