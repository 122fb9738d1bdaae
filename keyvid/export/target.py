"""The folder that a bundle is written to: complete, or as it was.

A bundle grows in a hidden folder beside its place. What an interrupted export has finished there
is taken over by the next one that makes the same bundle of the same inputs.
"""

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from keyvid.bundle.manifest import MANIFEST, Bundle
from keyvid.bundle.specs import FileSpec, SourceSpec, StageSpec
from keyvid.bundle.strict_json import from_json, parse_json
from keyvid.errors import BundleError, KeyvidError, SettingsError
from keyvid.export.source import TOKENIZER, Source, parts
from keyvid.export.stages import stages_of

_BUNDLE_SUFFIXES = {".json", ".onnx", ".plan", ".safetensors"}
_PROGRESS = "progress.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """What stays of the bundle in `folder`: stages, their files, and what they were made from."""

    folder: Path
    stages: dict[str, StageSpec] = field(default_factory=dict)
    files: dict[str, FileSpec] = field(default_factory=dict)
    sources: dict[str, SourceSpec] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)

    def check(self, new: Path) -> None:
        """Refuse a `new` file that is not the same as the one that a kept stage reads.

        Raises:
            SettingsError: names the stages to export as well.
        """
        if new.name in self.files and FileSpec.of(new) != self.files[new.name]:
            readers = [name for name in self.stages if new.name in stored_parts(name)]
            raise SettingsError(
                f"{new.name}: differs from that in {self.folder}, which {', '.join(readers)} "
                f"reads too; add --stage {' --stage '.join(readers)}"
            )

    def put_into(self, folder: Path) -> None:
        """Give the files a second name in `folder`, where they are not there already."""
        for name in self.files:
            if (folder / name).exists():
                continue
            try:
                os.link((self.folder / name).resolve(), folder / name)
            except OSError:  # not on every file system
                shutil.copyfile(self.folder / name, folder / name)


def find_kept(out: Path, source: Source, stages: Collection[str]) -> Kept:
    """What stays of a bundle at `out` when `stages` are exported.

    Raises:
        SettingsError: `out` is something else, or its bundle does not go with `source`.
        BundleError: its bundle is damaged and not all of it is exported anew.
    """
    if not out.parent.is_dir():
        raise SettingsError(f"{out.parent}: no such folder; create it or choose another --out")
    if not out.exists():
        return Kept(out)
    if not out.is_dir():
        raise SettingsError(f"{out}: is a file; choose a folder for --out")
    files = sorted(out.iterdir())
    if not files:
        return Kept(out)
    foreign = [file.name for file in files if file.suffix not in _BUNDLE_SUFFIXES]
    if foreign or out / MANIFEST not in files:
        found = foreign[0] if foreign else "other files"
        raise SettingsError(f"{out}: holds {found} and would be replaced; choose another --out")
    if set(stages) == set(stages_of(source.preset)):
        return Kept(out)
    old = Bundle.load(out)
    wanted = source.origin
    if (old.preset, old.weights) != (wanted.preset.name, wanted.weights):
        raise SettingsError(
            f"{old.path}: holds {old.weights} weights of preset {old.preset}, not {wanted.weights} "
            f"ones of {wanted.preset.name}; export all stages or choose another --out"
        )
    kept = {name: spec for name, spec in old.stages.items() if name not in stages}
    kept_files = {name: old.files[name] for name in files_of(kept)}
    licences = {name: text for name, text in (old.licences or {}).items() if name in kept}
    return Kept(out, kept, kept_files, old.sources or {}, licences)


def files_of(stages: dict[str, StageSpec]) -> set[str]:
    """Names of the files that these stages of a bundle need."""
    files = {graph.file for spec in stages.values() for graph in spec.graphs}
    return files | {file for name in stages for file in stored_parts(name)}


def stored_parts(stage: str) -> dict[str, str]:
    """Names of the files beside the graphs of a stage, to what `Source.write` calls them."""
    return {p if p == TOKENIZER else f"{p}.safetensors": p for p in parts(stage)}


@dataclass(kw_only=True)
class Finished:
    """Stages that have been finished, for a bundle that `identity` describes."""

    identity: str
    stages: dict[str, StageSpec] = field(default_factory=dict)
    files: dict[str, FileSpec] = field(default_factory=dict)


@dataclass(kw_only=True)
class Unfinished(Finished):
    """The same, of what is being made in `folder`.

    Attributes:
        outlasts_failures: whether finished stages stay after a failure, not only after an
            interruption.
    """

    folder: Path
    outlasts_failures: bool = False

    def finish(self, name: str, spec: StageSpec) -> None:
        """Record that a stage is complete, so that it outlasts an interruption."""
        self.stages[name] = spec
        for file in files_of({name: spec}) - self.files.keys():
            self.files[file] = FileSpec.of(self.folder / file)
        finished = Finished(identity=self.identity, stages=self.stages, files=self.files)
        content = asdict(finished)
        new = self.folder / f"{_PROGRESS}.new"
        new.write_text(json.dumps(content), encoding="utf-8")
        os.replace(new, self.folder / _PROGRESS)

    def take_over(self) -> None:
        """Go on from what lies in the folder, and remove what is not finished there."""
        try:
            old = from_json(Finished, parse_json((self.folder / _PROGRESS).read_bytes()))
        except (ValueError, OSError):
            old = Finished(identity="")
        if old.identity == self.identity and self._is_intact(old.files):
            self.stages, self.files = old.stages, old.files
        for path in self.folder.iterdir():
            if path.name not in {*self.files, _PROGRESS} or not self.stages:
                path.unlink()

    def _is_intact(self, files: dict[str, FileSpec]) -> bool:
        return all(
            (self.folder / name).is_file() and FileSpec.of(self.folder / name) == spec
            for name, spec in files.items()
        )


@contextmanager
def put_in_place(out: Path, identity: str) -> Iterator[Unfinished]:
    """A folder that takes the place of `out` at the end.

    After a failure it is gone, unless its finished stages outlast that. After an interruption it
    stays, if it holds finished stages.

    Raises:
        SettingsError: another process is writing it.
        BundleError: it cannot be written.
    """
    progress = Unfinished(folder=out.with_name(f".{out.name}.keyvid-export"), identity=identity)
    folder = progress.folder
    try:
        with _hold(folder):
            try:
                _recover(out)
                progress.take_over()
                yield progress
                (folder / _PROGRESS).unlink(missing_ok=True)
                _replace(out, folder)
            except BaseException as error:
                is_failure = isinstance(error, KeyvidError | OSError)
                if progress.stages and (progress.outlasts_failures or not is_failure):
                    names = ", ".join(progress.stages)
                    log.warning("%s: holds %s; the same command goes on from there", folder, names)
                else:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
    except OSError as error:
        raise BundleError(
            f"{out}: cannot be written: {error.strerror or error}; choose another --out"
        ) from error


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Make `folder` and keep other exports out of it; the lock ends with the process."""
    import fcntl  # where there is none, the command refuses to start

    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SettingsError(
            f"{folder}: another keyvid-export is writing there; wait for it or choose another --out"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def _recover(out: Path) -> None:
    """Undo what an interrupted `_replace` left."""
    old = _old(out)
    if old.exists() and not out.exists():
        old.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _replace(out: Path, folder: Path) -> None:
    """Rename `folder` to `out`; a folder that is there goes only once that has worked."""
    if not out.exists():
        folder.rename(out)
        return
    old = _old(out)
    out.rename(old)
    try:
        folder.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old)


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.keyvid-replaced")
