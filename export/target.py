"""The folder that a bundle is written to: complete, or as it was."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from keyvid.engines.bundle import MANIFEST, Bundle, FileSpec, StageSpec
from keyvid.engines.errors import BundleError, SettingsError
from keyvid.export.source import TOKENIZER, Source
from keyvid.export.stages import STAGES

_BUNDLE_SUFFIXES = {".json", ".onnx", ".safetensors"}


def stages_to_keep(out: Path, source: Source, stages: Collection[str]) -> dict[str, StageSpec]:
    """Stages of a bundle at `out` that are not among the `stages` to export.

    Raises:
        SettingsError: `out` is something else, or its bundle does not go with `source`.
        BundleError: its bundle is damaged and not all of it is exported anew.
    """
    if not out.parent.is_dir():
        raise SettingsError(f"{out.parent}: no such folder; create it or choose another --out")
    if not out.exists():
        return {}
    if not out.is_dir():
        raise SettingsError(f"{out}: is a file; choose a folder for --out")
    files = sorted(out.iterdir())
    if not files:
        return {}
    foreign = [file.name for file in files if file.suffix not in _BUNDLE_SUFFIXES]
    if foreign or out / MANIFEST not in files:
        found = foreign[0] if foreign else "other files"
        raise SettingsError(f"{out}: holds {found} and would be replaced; choose another --out")
    if set(stages) == set(STAGES):
        return {}
    old = Bundle.load(out)
    kept = {name: spec for name, spec in old.stages.items() if name not in stages}
    _check_match(old, source, stages, kept)
    return kept


def _check_match(
    old: Bundle, source: Source, stages: Collection[str], kept: Collection[str]
) -> None:
    """Refuse to mix presets, or weights that stages share."""
    if (old.preset, old.weights) != (source.preset.name, source.weights):
        raise SettingsError(
            f"{old.path}: holds {old.weights} weights of preset {old.preset}, not {source.weights} "
            f"ones of {source.preset.name}; export all stages or choose another --out"
        )
    for name in kept:
        file = source.path(name)
        if file in map(source.path, stages) and FileSpec.of(file) != old.files[file.name]:
            raise SettingsError(
                f"{file}: differs from that in {old.path}, which {name} reads too; "
                f"add --stage {name}"
            )


def files_of(stages: dict[str, StageSpec]) -> set[str]:
    """Names of the files that these stages of a bundle need."""
    files = {graph.file for spec in stages.values() for graph in spec.graphs}
    files |= {f"{STAGES[name].weights}.safetensors" for name in stages}
    return files | ({TOKENIZER} if "text_encoder" in stages else set())


@contextmanager
def put_in_place(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` at the end, and is gone after a failure."""
    folder = out.with_name(f".{out.name}.{token_hex(4)}")
    try:
        folder.mkdir()
        yield folder
        _replace(out, folder)
    except OSError as error:
        raise BundleError(
            f"{out}: cannot be written: {error.strerror or error}; choose another --out"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(out: Path, folder: Path) -> None:
    """Rename `folder` to `out`; a folder that is there goes only once that has worked."""
    if not out.exists():
        folder.rename(out)
        return
    old = folder.with_name(f"{folder.name}.old")
    out.rename(old)
    try:
        folder.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old)
