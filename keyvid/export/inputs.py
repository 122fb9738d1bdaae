"""The source of weights that the options of `keyvid-export` name, and what it says of itself."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyvid.bundle.manifest import PACKAGED
from keyvid.bundle.specs import Precision
from keyvid.errors import SettingsError
from keyvid.export.hub import HubFile, default_folder, list_files
from keyvid.export.released import (
    AVSYNC_LICENCE_NOTE,
    LICENCE_NOTE,
    PINNED,
    PUBLISHED,
    REPOSITORY,
    Published,
    find_file,
    list_checkpoints,
    other_interpolators,
)
from keyvid.export.room import plan_room, unread_files
from keyvid.export.source import Source, option_for, parts
from keyvid.export.stages import stages_of
from keyvid.sizes import format_size
from keyvid_ref.presets import Preset

# Stages that a bundle works without -> what does not work then, and what does.
_OPTIONAL = {
    "localizer": "the bundle does not hear by itself when things should move; its clips take "
    "--motion FILE, --motion packaged, --beats or --keyframes, and all else works",
}


@dataclass(frozen=True)
class Inputs:
    """A source, and the stages that are exported from it.

    Attributes:
        notes: lines on how its files were chosen.
    """

    source: Source
    stages: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def announce(
        self,
        stages: Sequence[str],
        written: Collection[str],
        out: Path,
        *,
        precision: Precision,
        verify: bool,
        drop_downloads: bool,
        say: Callable[[str], None],
    ) -> None:
        """Say what will be fetched, what it takes and under which licences, before it is done.

        Args:
            stages: those that are not finished.
            written: parts of them that are.
        Raises:
            SettingsError: there is no room for it.
        """
        source = self.source
        if source.origin.licences:
            say(AVSYNC_LICENCE_NOTE if source.preset.judges else LICENCE_NOTE)
        for note in self.notes:
            say(note)
        if not source.origin.downloads:
            return
        left = {part for stage in stages for part in parts(stage)} - set(written)
        files = unread_files(source, left)
        for name, file in files.items():
            say(_describe_file(name, file))
        room = plan_room(
            source,
            stages,
            written,
            precision=precision,
            verify=verify,
            drop_downloads=drop_downloads,
        )
        missing = sum(file.bytes - file.bytes_here for file in files.values())
        say(
            f"to fetch: {format_size(missing)}, kept in {default_folder()}"
            f"{' until its stages are exported' if drop_downloads else ''}; bundle: "
            f"{format_size(room.bundle)}; disk: {format_size(max(room.both, 0))} more at most; "
            f"memory: {format_size(room.memory)} at most"
        )
        room.check(out, drop_downloads=drop_downloads, verify=verify)


def open_inputs(
    preset: Preset,
    stages: Sequence[str],
    weights: str | None,
    seed: int | None,
    released: Mapping[str, Path],
    revision: str | None,
) -> Inputs:
    """The one source that is named; without any, the packaged weights of `preset`.

    Args:
        stages: what is to be exported; none for all that the source has.
        weights: a folder.
        seed: of random weights.
        released: released files as for `Source.released`.
        revision: take those that are needed and not given from the Hub, at that revision.
    Raises:
        SettingsError: more than one source is named, or none and `preset` is not packaged.
        BundleError: it cannot be opened or listed.
    """
    ways = {
        "--weights": weights is not None,
        "--random-weights": seed is not None,
        "released files": revision is not None or bool(released),
    }
    named = [way for way, is_named in ways.items() if is_named]
    if len(named) > 1:
        raise SettingsError(f"{' and '.join(named)} exclude each other; choose one of them")
    if revision is not None:
        return _open_from_hub(preset, released, stages, revision)
    chosen = tuple(stages or stages_of(preset))
    if seed is not None:
        return Inputs(Source.random(preset, seed), chosen)
    if released:
        return Inputs(Source.released(preset, released), chosen)
    if weights is None and preset.name not in PACKAGED:
        option = option_for("avsync_audio" if preset.judges else "generator")
        raise SettingsError(
            f"preset {preset.name} has no packaged weights; give --from-hub, released files such "
            f"as {option}, --weights FOLDER or --random-weights SEED"
        )
    return Inputs(Source.open(preset, weights or preset.name), chosen)


def _open_from_hub(
    preset: Preset, given: Mapping[str, Path], stages: Sequence[str], revision: str
) -> Inputs:
    """The released weights: files that are given and here, the others from the Hub.

    Raises:
        SettingsError: a file is neither here nor there.
        BundleError: the Hub cannot be asked.
    """
    here = {name: path for name, path in given.items() if path.exists() or name not in PUBLISHED}
    wanted = tuple(stages or stages_of(preset))
    hub = _Listings(revision)
    downloads: dict[str, HubFile] = {}
    lacking: dict[str, str] = {}
    for name, stage in Source.released(preset, here).needed(wanted).items():
        if name in here:
            continue
        file = hub.find(name, given.get(name))
        if file is not None:
            downloads[name] = file
        elif name in given or stage in stages or stage not in _OPTIONAL:
            raise SettingsError(f"{stage}: {hub.describe_lack(name, given.get(name))}")
        else:
            lacking[stage] = hub.describe_lack(name, None)
    notes = [f"without {stage}: {why}; {_OPTIONAL[stage]}" for stage, why in lacking.items()]
    chosen = tuple(stage for stage in wanted if stage not in lacking)
    return Inputs(Source.released(preset, here, downloads), chosen, (*hub.notes, *notes))


class _Listings:
    """What the repositories hold of which files are published, each listed once.

    Attributes:
        notes: lines on what was found.
    """

    def __init__(self, revision: str) -> None:
        self._revision = revision
        self._files: dict[str, list[HubFile]] = {}
        self.notes: list[str] = []

    def find(self, name: str, wanted: Path | None) -> HubFile | None:
        """The file that is published as `name`, or under the name `wanted` beside it."""
        if name not in PUBLISHED:
            return None
        files = self._list(PUBLISHED[name])
        file = find_file(files, str(wanted or PUBLISHED[name].file))
        if name == "interpolator" and file and (others := other_interpolators(files, file)):
            why = "as asked for" if wanted else "the one that the release's script names"
            self.notes.append(
                f"interpolator: {file.name}, {why}; also there: {', '.join(others)}, see "
                "--interpolator NAME"
            )
        return file

    def describe_lack(self, name: str, wanted: Path | None) -> str:
        """That there is no such file, and what to do."""
        if name not in PUBLISHED:
            return f"needs {option_for(name)}, which is not among the files known on the Hub"
        published = PUBLISHED[name]
        files = self._list(published)
        found = f"{published.repository}, which has {list_checkpoints(files)}"
        if wanted:
            return f"{wanted} is no file here, and none in {found}; give {option_for(name)} or NAME"
        give = f"give {option_for(name)}, or NAME if it is one of these"
        return f"no {published.file} in {found}; {give}"

    def _list(self, published: Published) -> list[HubFile]:
        repository = published.repository
        if repository not in self._files:
            revision = self._revision if repository == REPOSITORY else published.revision
            files = self._files[repository] = list_files(repository, revision)
            commit = files[0].revision if files else revision
            pinned = "pinned" if revision == published.revision == commit else "not pinned"
            self.notes.append(f"{repository} at {revision}, {pinned}, commit {commit[:12]}")
        return self._files[repository]


def _describe_file(name: str, file: HubFile) -> str:
    """A line on a download: how large it is, how much is here, who says what its checksum is."""
    here = f", {format_size(file.bytes_here)} are here" if file.bytes_here else ""
    pinned = "known" if file.name in PINNED else "the Hub's own, not known beforehand"
    kind = "sha256" if file.is_large else "git's sha1"
    return (
        f"{name}: {file.path}, {format_size(file.bytes)}{here}; {kind} {file.checksum[:12]}... is "
        f"{pinned}"
    )
