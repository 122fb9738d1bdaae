"""A bundle: the folder of graphs and weights that the runtime reads, and its manifest.

A bundle is checked against its own `bundle.json`: plain names, files of the stated size and sha256
(links to such files will do), known keys of the right type. What a graph itself says about files
beside it is checked by `keyvid.bundle.external_data` before a backend sees it.
"""

import json
import os
import re
from dataclasses import asdict, dataclass
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from keyvid.bundle.files import check_regular, check_sha256, check_size
from keyvid.bundle.specs import (
    Conditioning,
    Dimensions,
    Familiar,
    FileSpec,
    Form,
    GraphSpec,
    SourceSpec,
    StageSpec,
    WeightsKind,
)
from keyvid.bundle.strict_json import from_json, parse_json
from keyvid.errors import BundleError
from keyvid.sampling import Changes, Quality, Sampling

SCHEMA = 3  # 2: one sampling for both U-Nets; 1: each branch had its own copy of the latent
MANIFEST = "bundle.json"
PACKAGED = ("tiny",)

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXPORT_AGAIN = "export it again with keyvid-export"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `bundle.json` says beside its schema.

    Attributes:
        preset: name of the model preset in the reference.
        makers: versions of the programs that made it.
        stages, files: by name.
        qualities: what `Settings(quality=...)` changes of `sampling`, but for the default.
        sources: the files that its weights were read from, by what they are, if known.
        licences: of the weights of each stage, None where they are not stated.
        familiar: what the model knows, None if that is not limited.
        plans: what plans, native code for GPUs, depend on, by file; None for a bundle without any.
    """

    name: str
    preset: str
    weights: WeightsKind
    makers: dict[str, str]
    dimensions: Dimensions
    conditioning: Conditioning
    sampling: Sampling
    stages: dict[str, StageSpec]
    files: dict[str, FileSpec]
    qualities: dict[Quality, Changes] | None = None
    sources: dict[str, SourceSpec] | None = None
    licences: dict[str, str] | None = None
    familiar: Familiar | None = None
    plans: dict[str, dict[str, str]] | None = None


@dataclass(frozen=True, kw_only=True)
class Bundle(Manifest):
    """What `bundle.json` in the folder `path` says."""

    path: Path

    @classmethod
    def load(cls, bundle: str | PathLike[str], *, verify: bool = True) -> "Bundle":
        """The bundle in a folder, or the packaged one of that name.

        Args:
            bundle: a name in `PACKAGED`, or the path of a folder ("./tiny" for one of that name).
            verify: check the sha256 of each file, once per process; else only kind and size, and
                links are refused.

        Raises:
            BundleError: one line on what is wrong and what to do.
        """
        path = find_bundle(bundle)
        manifest = path / MANIFEST
        check_regular(manifest, follow=True)
        try:
            loaded = _parse(path, parse_json(manifest.read_bytes()))
        except (ValueError, OSError) as error:
            raise BundleError(f"{manifest}: {error}; {_EXPORT_AGAIN}") from None
        for name, spec in loaded.files.items():
            check_size(path / name, spec.bytes, follow=verify)
            if verify:
                check_sha256(path / name, spec.sha256)
        return loaded

    def stage(self, name: str) -> StageSpec:
        """The stage of that name; a BundleError lists the valid ones."""
        if name not in self.stages:
            raise BundleError(
                f"{self.path}: no stage {name!r}; this bundle has {', '.join(self.stages)}"
            )
        return self.stages[name]

    def branches(self, stage: str) -> tuple[int, ...]:
        """Guidance branches per call that `stage` was exported for, ascending."""
        graphs = self.stage(stage).graphs
        return tuple(sorted({graph.branches for graph in graphs if graph.branches is not None}))

    def graphs(self, stage: str, form: Form = "plain") -> list[GraphSpec]:
        """The graphs of `stage` in that form, the plain ones where it has none of it."""
        graphs = self.stage(stage).graphs
        in_form = [graph for graph in graphs if graph.form == form]
        return in_form or [graph for graph in graphs if graph.form == "plain"]

    def graph(
        self,
        stage: str,
        *,
        branches: int | None = None,
        temporal: str | None = None,
        form: Form = "plain",
    ) -> GraphSpec:
        """The one of `graphs` that fits; None fits all, and must leave one."""
        graphs = self.graphs(stage, form)
        fitting = [
            graph
            for graph in graphs
            if branches in (None, graph.branches) and temporal in (None, graph.temporal)
        ]
        if len(fitting) != 1:
            variants = ", ".join(f"{graph.branches}/{graph.temporal}" for graph in graphs)
            raise BundleError(
                f"{self.path}: {len(fitting)} graphs of {stage} fit branches {branches} and "
                f"temporal {temporal}; name one of {variants} (branches/temporal)"
            )
        return fitting[0]


def find_bundle(bundle: str | PathLike[str]) -> Path:
    """Folder of the packaged bundle of that name, else `bundle` as a path.

    Raises:
        BundleError: there is no such folder.
    """
    if bundle in PACKAGED:
        path = Path(str(resources.files("keyvid"))) / "bundles" / str(bundle)
        if not path.is_dir():
            raise BundleError(
                f"{path}: the packaged bundle {bundle!r} is missing; install keyvid again "
                "or name a folder that keyvid-export wrote"
            )
        return path
    path = Path(bundle)
    if not os.path.isdir(path):  # unlike Path.is_dir, also False where the name is not allowed
        found = "is no folder" if os.path.exists(path) else "no such folder"
        raise BundleError(
            f"{path}: {found}; name a folder that keyvid-export wrote, "
            f"or a packaged bundle: {', '.join(PACKAGED)}"
        )
    return path


def write_manifest(folder: Path, bundle: Bundle) -> None:
    """Write `bundle.json` into `folder`, whole or not at all; `bundle.path` is not part of it."""
    content = {"schema": SCHEMA, **asdict(bundle)}
    del content["path"]
    for key in ("qualities", "sources"):
        content[key] = _without_nulls(content[key])
    new = folder / f".{MANIFEST}"
    new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(new, folder / MANIFEST)


def _without_nulls(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {key: _without_nulls(value) for key, value in content.items() if value is not None}


def _parse(path: Path, content: Any) -> Bundle:
    """Decoded `bundle.json` as a bundle, all values checked; no file is looked at.

    Raises:
        ValueError: what is wrong.
    """
    schema = content.pop("schema", None) if isinstance(content, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise BundleError(
            f"{path / MANIFEST}: schema {schema} is newer than this keyvid reads ({SCHEMA}); "
            f"install a newer keyvid, or {_EXPORT_AGAIN}"
        )
    if type(schema) is not int or schema != SCHEMA:
        raise ValueError(f"schema is {schema!r:.40}, want {SCHEMA}")
    bundle = Bundle(path=path, **vars(from_json(Manifest, content)))
    for name, spec in bundle.files.items():
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"file name {name!r:.60} is not a plain name inside the folder")
        if not _SHA256.fullmatch(spec.sha256):
            raise ValueError(f"files.{name}.sha256 is {spec.sha256!r:.40}, want 64 hex digits")
    if unknown := (bundle.plans or {}).keys() - bundle.files.keys():
        raise ValueError(f"plans names {min(unknown)!r:.60}, which is not among files")
    for name, stage in bundle.stages.items():
        if not stage.graphs:
            raise ValueError(f"stages.{name} has no graphs")
        for graph in stage.graphs:
            if graph.file not in bundle.files:
                raise ValueError(
                    f"stages.{name} names {graph.file!r:.60}, which is not among files"
                )
    return bundle
