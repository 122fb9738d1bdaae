"""How many guidance branches go together: as many as the memory allows, else a number."""

import logging
from dataclasses import replace

import pytest

from keyvid.bundle.specs import FileSpec, GraphMemory, GraphSpec
from keyvid.engines.spec import ENGINES, Footprint
from keyvid.errors import SettingsError
from keyvid.runtime.networks import budget
from keyvid.runtime.networks.budget import Budget, batch_sizes
from keyvid.sampling import Sampling

GB = 10**9
HELD = GB // 2


def make_graphs(exported) -> dict[str, list[GraphSpec]]:
    """Values of 1 GB a branch and weights of 1 GB; the interpolator takes three times as much."""

    def graph(name: str, branches: int | None, size: int, temporal: str | None = None) -> GraphSpec:
        memory = GraphMemory(GB, 0, (branches or 1) * size * GB, 0)
        return GraphSpec(f"{name}.b{branches}", {}, {}, memory, branches, temporal)

    generator = [graph("generator", branches, 1) for branches in exported]
    interpolator = [
        graph("interpolator", branches, size, temporal)
        for temporal, size in (("windows", 3), ("full", 30))
        for branches in exported
    ]
    return {
        "vae_encoder": [graph("vae_encoder", None, 1)],
        "generator": generator,
        "interpolator": interpolator,
    }


# An engine that takes what the graph needs, and one that takes it elsewhere.
HERE = replace(ENGINES["openvino"], footprint=Footprint(0, 0, 1, 1, False))
ELSEWHERE = ENGINES["tensorrt"]


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """`machine(n)` GB are free."""
    monkeypatch.setattr(budget, "process_bytes", lambda: HELD)

    def free(gigabytes: float) -> None:
        monkeypatch.setattr(budget, "available_bytes", lambda: round(gigabytes * GB))

    free(1000)
    return free


@pytest.fixture
def choose(bundle_of):
    """`choose(active, exported, **limits)`: the batches for such a bundle."""

    def call(
        active=4,
        exported=(4, 3, 2, 1),
        temporal="windows",
        cfg_batch=None,
        max_memory=None,
        spec=HERE,
    ) -> dict[str, int]:
        bundle = bundle_of(Sampling(), make_graphs(exported))
        branches = {"generator": active, "interpolator": active}
        chosen = Budget(bundle, spec, max_memory).choose_graphs(branches, temporal, cfg_batch)
        return {stage: graph.branches for stage, graph in chosen.items() if graph.branches}

    return call


def test_all_at_once_where_there_is_memory(choose, machine):
    assert choose() == {"generator": 4, "interpolator": 4}
    assert choose(3) == {"generator": 3, "interpolator": 3}


@pytest.mark.parametrize(
    ("free", "batches"), [(13, (4, 4)), (12.9, (4, 2)), (7, (4, 2)), (6.9, (4, 1)), (4, (2, 1))]
)
def test_fewer_at_a_time_where_there_is_less(choose, machine, free, batches):
    machine(free)
    assert tuple(choose().values()) == batches


def test_what_a_limit_leaves_counts_with_what_is_held(choose, machine):
    machine(1)  # a limit that is asked for is trusted
    assert tuple(choose(max_memory=13 * GB + HELD).values()) == (4, 4)
    assert tuple(choose(max_memory=13 * GB).values()) == (4, 2)


def test_branches_are_not_run_in_vain(choose, machine):
    machine(9)  # two at a time would run four of the three
    assert choose(3)["interpolator"] == 1
    machine(10)
    assert choose(3)["interpolator"] == 3
    assert choose(3, exported=(4, 2, 1))["generator"] == 1


def test_a_wish_is_kept_or_refused(choose, machine):
    assert choose(cfg_batch=2) == {"generator": 2, "interpolator": 2}
    machine(6)
    with pytest.raises(
        SettingsError,
        match=r"^interpolator: takes 7\.5 GB of memory with 2 guidance branches a call, "
        r"6\.5 GB are there for this process; end other programs, .* lower --cfg-batch$",
    ):
        choose(cfg_batch=2)


def test_too_little_is_refused_with_the_number(choose, machine):
    with pytest.raises(
        SettingsError,
        match=r"^interpolator: takes 4\.5 GB of memory with 1 guidance branch a call, "
        r"max-memory is 4\.4 GB; raise it$",
    ):
        choose(max_memory=round(4.4 * GB))
    with pytest.raises(SettingsError, match=r"takes 4\.5 GB .* max-memory is 4\.499999999 GB"):
        choose(max_memory=round(4.5 * GB) - 1)
    machine(1)
    with pytest.raises(
        SettingsError, match=r"^interpolator: takes 4\.5 GB of memory .*, 1\.5 GB are"
    ):
        choose()


def test_the_temporal_mode_counts(choose, machine):
    machine(31)
    assert choose(temporal="full")["interpolator"] == 1


def test_a_gpu_engine_is_not_limited(choose, machine):
    machine(0)
    assert choose(spec=ELSEWHERE) == {"generator": 4, "interpolator": 4}


@pytest.mark.parametrize("size", [0, 5])
def test_unknown_batches_are_refused(choose, size):
    with pytest.raises(SettingsError, match=rf"^cfg-batch {size}: want one of 1, 2, "):
        choose(cfg_batch=size)


def test_the_choice_is_logged(choose, caplog):
    caplog.set_level(logging.INFO, "keyvid")
    choose(max_memory=8 * GB)
    assert "interpolator.b2: at most 7.5 GB of memory" in caplog.text
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == ["interpolator: 2 guidance branches a call, more do not fit in memory"]


@pytest.mark.parametrize(
    ("active", "exported", "wanted", "sizes"),
    [
        (4, (1, 2, 3, 4), None, (4, 2, 1)),
        (3, (1, 2, 3, 4), None, (3, 1)),
        (3, (1, 2, 4), None, (1,)),
        (2, (1, 2, 4), None, (2, 1)),
        (1, (1, 2, 4), None, (1,)),
        (4, (1, 2), None, (2, 1)),
        (2, (1, 2, 4), 4, (2,)),
        (4, (1, 2, 4), 2, (2,)),
        (3, (1, 2, 4), 1, (1,)),
        (3, (1, 2, 4), 3, (4,)),
    ],
)
def test_batch_sizes(active, exported, wanted, sizes):
    assert batch_sizes(active, exported, wanted) == sizes


@pytest.mark.parametrize(("max_memory", "room"), [(None, 6 * GB), (5 * GB, 5 * GB - HELD)])
def test_room_for_graphs_is_what_the_process_leaves(bundle_of, machine, max_memory, room):
    machine(6)
    assert Budget(bundle_of(Sampling(), make_graphs((1,))), HERE, max_memory).room() == room


@pytest.mark.parametrize("max_memory", [None, 5 * GB])
def test_memory_elsewhere_has_room_for_small_models(bundle_of, machine, max_memory):
    machine(6)
    assert Budget(bundle_of(Sampling(), make_graphs((1,))), ELSEWHERE, max_memory).room() == 2**30


def test_what_a_graph_takes(bundle_of):
    """Elsewhere its weights and values, here what the engine makes of them and of its file."""
    graphs = make_graphs((2,))
    bundle = bundle_of(Sampling(), graphs)
    generator = graphs["generator"][0]
    bundle.files[generator.file] = FileSpec(1000, 64 * "0")
    assert Budget(bundle, ELSEWHERE).bytes_of(generator) == 3 * GB
    here = replace(HERE, footprint=Footprint(7, 5, 1, 2, False))
    assert Budget(bundle, here).bytes_of(generator) == 7 + 5 * 1000 + GB + 2 * 2 * GB


def test_an_engine_gets_the_form_that_is_made_for_it(bundle_of):
    """In all stages that have it, those without branches among them."""
    plain = make_graphs((1, 2))
    graphs = {
        stage: [*of_stage, *(replace(g, file=f"{g.file}.cuda", form="cuda") for g in of_stage)]
        for stage, of_stage in plain.items()
    }
    graphs["vae_decoder"] = [replace(plain["vae_encoder"][0], file="vae_decoder")]
    bundle = bundle_of(Sampling(), graphs)
    active = {"generator": 2, "interpolator": 2}
    chosen = {
        name: [g.file for g in Budget(bundle, ENGINES[name]).choose_graphs(active, "full").values()]
        for name in ("tensorrt", "cuda")
    }
    names = ["vae_encoder.bNone", "generator.b2", "interpolator.b2"]
    assert chosen["tensorrt"] == [*names, "vae_decoder"]
    assert chosen["cuda"] == [*(f"{name}.cuda" for name in names), "vae_decoder"]
