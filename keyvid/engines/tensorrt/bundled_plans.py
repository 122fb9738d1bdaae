"""Plans that lie in a bundle, for devices that shall not build them.

A plan is native code. One of a bundle is used only if its bytes are trusted: they were built by
this user, or `keyvid-cache trust` was told so. What is trusted stands in the user's own plan cache.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from keyvid.bundle.files import check_regular
from keyvid.bundle.manifest import PACKAGED, Bundle, write_manifest
from keyvid.bundle.specs import FileSpec
from keyvid.engines.cache import Cache
from keyvid.engines.gpu import Gpu
from keyvid.engines.tensorrt.plan import (
    BuildSettings,
    Ingredients,
    Plan,
    describe,
    find_fitting,
    targets_of,
)
from keyvid.errors import BundleError, EngineError, SettingsError
from keyvid.file_safety import locked_folder


def check_place(bundle: str) -> None:
    """Refuse to put plans into a packaged bundle, with a SettingsError."""
    if bundle in PACKAGED:
        raise SettingsError(
            f"{bundle} is part of the installation, and plans are for one's own devices only; copy "
            "its folder, or build into the cache"
        )


def add_plan(folder: Path, plan: Plan, cache: Cache) -> FileSpec:
    """Put a plan that was built here into the bundle in `folder`, in place of older ones like it.

    Killed at any moment, the bundle is as before or has the plan.

    Raises:
        BundleError: the bundle cannot be written.
    """
    spec = FileSpec(len(plan.content), hashlib.sha256(plan.content).hexdigest())
    stem, targets = Path(plan.ingredients["file"]).stem, targets_of(plan.ingredients)
    name = f"{stem}.{'-'.join(targets)}.{spec.sha256[:8]}.plan"
    with _held(folder):
        bundle = Bundle.load(folder, verify=False)
        new = folder / f".{name}"
        with new.open("wb") as file:
            file.write(plan.content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, folder / name)
        old = [file for file, what in (bundle.plans or {}).items() if _replaces(plan, what)]
        plans = {k: v for k, v in (bundle.plans or {}).items() if k not in old}
        files = {k: v for k, v in bundle.files.items() if k not in old}
        plans[name], files[name] = plan.ingredients, spec
        cache.put(_trust(spec.sha256, name), b"")
        write_manifest(folder, replace(bundle, files=dict(sorted(files.items())), plans=plans))
        for path in folder.glob("*.plan"):  # also what killed processes left
            if path.name not in plans:
                path.unlink()
    return spec


def trust_plans(bundle: Bundle, cache: Cache) -> None:
    """Trust all plans of `bundle` as they are now; it must have been loaded with its files checked.

    Raises:
        BundleError: it has none.
    """
    if not bundle.plans:
        raise BundleError(f"{bundle.path}: holds no plans, nothing has to be trusted")
    for name in bundle.plans:
        cache.put(_trust(bundle.files[name].sha256, name), b"")


def find_bundled(graph: Path, settings: BuildSettings, cache: Cache, gpu: Gpu) -> Plan | None:
    """The plan in its bundle of the graph at the absolute path `graph`; None if it has none.

    Raises:
        EngineError: its plans are for other GPUs or versions, changed, or not trusted.
    """
    bundle = Bundle.load(graph.parent, verify=False)
    title = settings.library.title
    plans = [
        what
        for what in (bundle.plans or {}).values()
        if what.get("file") == graph.name and what.get("kind") == f"{title} plan"
    ]
    if not plans:
        return None
    found = find_fitting(plans, graph, settings, gpu)
    if found is None:
        raise EngineError(_why_not(plans, graph, settings, gpu))
    name = next(name for name, what in (bundle.plans or {}).items() if what == found)
    path, spec = bundle.path / name, bundle.files[name]
    check_regular(path, follow=False)
    content = path.read_bytes()
    if FileSpec(len(content), hashlib.sha256(content).hexdigest()) != spec:
        raise BundleError(f"{path}: is not what bundle.json says; copy or build it again")
    if cache.get(_trust(spec.sha256, name)) is None:
        raise EngineError(
            f"{path}: a plan is native code, and this one was not built by this user; if you trust "
            f"who built it: keyvid-cache trust {bundle.path}"
        )
    return Plan(found, content)


def _why_not(plans: list[Ingredients], graph: Path, settings: BuildSettings, gpu: Gpu) -> str:
    """Why none of the plans of a graph is used, and what to do."""
    library = settings.library
    again = f"keyvid-cache build {graph.parent} --with-plans"
    plan = next((plan for plan in plans if library.fits(targets_of(plan), gpu)), None)
    if plan is None:
        targets = sorted({target for plan in plans for target in targets_of(plan)})
        return (
            f"{graph.name}: its plans are for {', '.join(targets)}, this GPU is {gpu.name}, "
            f"{library.target(gpu)}; {again} --target {library.target(gpu)}"
        )
    wanted = describe(graph, settings)
    differing = (k for k in wanted if k != "targets" and plan.get(k) != wanted[k])
    name = next(differing, "kind")
    return (
        f"{graph.name}: its plan for this GPU is for {name} {plan.get(name, '')[:40]}, "
        f"here it is {wanted[name][:40]}; {again}"
    )


def _replaces(plan: Plan, old: Ingredients) -> bool:
    """Whether a plan is for the same graph, library and GPUs as an older one."""
    same = ("kind", "file", "targets", "settings")
    return all(old.get(name) == plan.ingredients[name] for name in same)


def _trust(sha256: str, name: str) -> Ingredients:
    """What stands in the cache for a plan that is trusted."""
    return {"kind": "trusted plan", "file": name, "sha256": sha256}


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Let one process at a time change the bundle in `folder`; explains what the system refuses."""
    try:
        with locked_folder(folder, wait=True):
            yield
    except OSError as error:
        raise BundleError(
            f"{folder}: a plan cannot be put there: {error.strerror or error}; make room, or build "
            "into the cache"
        ) from error
