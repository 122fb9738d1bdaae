"""The simulation against what queueing theory knows, and against arithmetic."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.scale.arrivals import DAY, MEAN_SEGMENTS, draw_orders
from bench.scale.command import main
from bench.scale.costs import Costs, measured_costs
from bench.scale.plan import GENERATOR, INTERPOLATOR, WHOLE, Autoscale, Outcome, Plan
from bench.scale.plant import Plant
from bench.scale.questions import QUESTIONS, Setting, least_workers
from keyvid.errors import SettingsError
from keyvid.serve.scheduling import Rules

COSTS = Costs("a machine", "measured", 1.0, 1.5, 0.2, 3.0, 4.0, 2.8, (6, 3))
ALWAYS_TWO_SECONDS = {1.0: 1.0}
HOURS = 8 * 3600.0


def simulate(
    plan: Plan, per_day: float = 2000.0, duration: float = HOURS, **load: object
) -> Outcome:
    return Plant(plan, seed=1).run(draw_orders(per_day, duration, seed=1, **load))  # type: ignore[arg-type]


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_one_worker_waits_as_pollaczek_and_khinchine_say(busy: float) -> None:
    service = COSTS.clip(1.0)
    per_day = busy * DAY / service
    plan = Plan(COSTS, {WHOLE: 1}, store=0.0)
    outcome = simulate(plan, per_day, 10 * DAY, segments=ALWAYS_TWO_SECONDS)
    expected = busy * service / (2 * (1 - busy))  # M/D/1
    assert outcome.mean_wait == pytest.approx(expected, rel=0.1)
    assert outcome.utilisation == pytest.approx(busy, rel=0.03)


def test_same_seed_same_numbers() -> None:
    plan = Plan(COSTS, {WHOLE: 3}, mean_life=900.0)
    assert simulate(plan) == simulate(plan)


def test_all_orders_are_made_once() -> None:
    number = len(list(draw_orders(2000.0, HOURS, seed=1)))
    for workers in ({WHOLE: 2}, {GENERATOR: 1, INTERPOLATOR: 2}):
        outcome = simulate(Plan(COSTS, workers))
        assert len(outcome.waits) == len(outcome.delays) == number
        assert outcome.lost == 0


def test_split_workers_do_the_same_work() -> None:
    whole = simulate(Plan(COSTS, {WHOLE: 3}))
    split = simulate(Plan(COSTS, {GENERATOR: 1, INTERPOLATOR: 2}))
    assert split.busy == pytest.approx(whole.busy)


def test_death_costs_a_step_where_clips_resume_and_the_clip_where_not() -> None:
    healthy = simulate(Plan(COSTS, {WHOLE: 4}))
    resumed = simulate(Plan(COSTS, {WHOLE: 4}, mean_life=600.0))
    anew = simulate(Plan(COSTS, {WHOLE: 4}, mean_life=600.0, resumes=False))
    assert healthy.again == 0
    assert 0 < resumed.again < anew.again / 4
    assert resumed.busy == pytest.approx(healthy.busy + resumed.again)


def test_full_queue_sends_clients_away_until_they_give_up() -> None:
    plan = Plan(COSTS, {WHOLE: 1}, Rules(waiting=2))
    outcome = simulate(plan, per_day=20_000.0, duration=3600.0)
    assert outcome.refused > outcome.lost > 0
    alone = simulate(replace(plan, returns=0), per_day=20_000.0, duration=3600.0)
    assert alone.refused == alone.lost > 0


def test_store_sets_the_pace_of_orders() -> None:
    rate = 2000.0 / DAY
    fast, slow = (simulate(Plan(COSTS, {WHOLE: 9}, store_rate=x * rate)) for x in (50, 0.9))
    assert fast.wait(95) < 1.5 / (50 * rate) + 1
    assert slow.wait(95) > 60 * fast.wait(95)


def test_shared_calls_and_kept_encoders_save_work() -> None:
    busy = simulate(Plan(COSTS, {WHOLE: 2})).busy
    together = Plan(COSTS, {WHOLE: 1}, together=4, shared=0.5)
    assert simulate(together, segments=ALWAYS_TWO_SECONDS).busy < 0.8 * busy
    kept = simulate(Plan(COSTS, {WHOLE: 2}, keeps_known=True), known=1.0)
    number = len(kept.waits)
    assert kept.busy == pytest.approx(busy - number * COSTS.encode)


def test_autoscaling_follows_the_day() -> None:
    scale = Autoscale(1, 20)
    outcome = simulate(
        Plan(COSTS, {WHOLE: 1}, machine=30.0, autoscale=scale), 3000, DAY, curve="day"
    )
    mean = outcome.up / outcome.duration
    needed = 3000 / DAY * COSTS.clip(MEAN_SEGMENTS)
    assert needed < mean < 2.5 * needed
    assert outcome.utilisation > 0.4


def test_curves_hold_the_mean_and_the_burst() -> None:
    times = np.array([order.at for order in draw_orders(50_000, DAY, "day")])
    assert len(times) == pytest.approx(50_000, rel=0.02)
    night, evening = (((times > h * 3600) & (times < (h + 1) * 3600)).sum() for h in (3.5, 15.5))
    assert evening / night == pytest.approx(7, rel=0.25)
    burst = np.array([order.at for order in draw_orders(50_000, 3600, "burst")])
    within = ((burst >= 600) & (burst < 1200)).sum()
    assert within / len(burst) == pytest.approx(10 / 15, rel=0.05)


@pytest.mark.parametrize("goal", [1, 2, 3, 17, 40])
@pytest.mark.parametrize("start", [1, 5, 30, 100])
def test_least_number_is_found(goal: int, start: int) -> None:
    assert least_workers(lambda number: number >= goal, start) == goal


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_question_has_an_answer(name: str) -> None:
    answer = QUESTIONS[name](Setting(COSTS, per_day=2000.0, hours=1.0, price=2.0))
    assert all(len(row) == len(answer.table.header) for row in answer.table.rows)
    assert answer.lines
    points = [value for line in answer.lines.values() for point in line for value in point]
    assert all(math.isfinite(value) for value in points)


def report(seconds: float) -> dict[str, object]:
    stages = ("localizer", "image_encoder", "vae_decoder", "generator", "interpolator")
    return {
        "timings_s": dict.fromkeys(stages, seconds),
        "settings": {"generator": {"steps": 6}, "interpolator": {"steps": 3}},
        "bundle": {"name": "tiny"},
        "engine": {"name": "openvino"},
        "keyframes": list(range(12)),
    }


def test_costs_are_read_from_reports(tmp_path: Path) -> None:
    cold, warm = tmp_path / "cold.json", tmp_path / "warm.json"
    cold.write_text(json.dumps(report(1.5)))
    warm.write_text(json.dumps(report(1.0)))
    costs = measured_costs(cold, warm, boot=2.0)
    assert costs.cold_start == pytest.approx(2.0 + 5 * 0.5)
    assert costs.clip(2.0) == pytest.approx(2.0 + 2 * 3.0)
    warm.write_text("{}")
    with pytest.raises(SettingsError, match="no report"):
        measured_costs(cold, warm, boot=2.0)


def test_command_tells_computed_from_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ["--load", "500", "--hours", "1", "--ask", "encoders", "--plots", str(tmp_path)]
    assert main(["--preset", "tiny", "--quality", "balanced", "--rate", "1e11", *load]) == 0
    assert "computed from" in capsys.readouterr().out
    assert (tmp_path / "encoders.png").read_bytes().startswith(b"\x89PNG")
    assert main(load) == 2
    assert "want --cold and --warm" in capsys.readouterr().err


@pytest.mark.slow
def test_a_day_of_a_million_clips() -> None:
    plan = Plan(COSTS.slower(0.1), {WHOLE: 60})
    outcome = Plant(plan).run(draw_orders(1e6, DAY, "day"))
    assert len(outcome.waits) > 990_000
