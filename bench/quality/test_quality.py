"""The first test clips of the synthetic world by the fastest engine: scores that must not fall."""

from pathlib import Path

import pytest

from bench.quality.recipes import Recipe
from bench.quality.report import format_run
from bench.quality.run import Plan, run_recipe
from keyvid.bundle.manifest import Bundle
from keyvid.score.results import score_clips

_NUM_CLIPS = 3


def test_strikes_fall_on_the_sound(
    bundle: Bundle, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The packaged model scores 0.94 within 83 ms by tracked pose on 60 clips."""
    if bundle.weights == "random":
        pytest.skip("random weights make noise, not clips")
    engines = request.config.getoption("--engine") or ["auto"]
    recipe = Recipe(str(bundle.path), engines[0])
    run = run_recipe(recipe, Plan(clips=_NUM_CLIPS), jobs=1, out=tmp_path)
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        reporter.write_line("")
        reporter.write_line(format_run(run))
    assert score_clips(run.seen).by["tracked pose"].at_ms[83].f1 > 0.7
