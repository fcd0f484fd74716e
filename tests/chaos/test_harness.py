"""A short run finds nothing wrong, and with a guard of the service taken out the harness finds what then goes wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import verdict
from tests.chaos.harness import Enough, Harness, Report
from tests.chaos.plan import Plan, PlannedFault, PlannedJob, plan
from tests.conftest import REPOSITORY

SHORT_JOBS = 25
SEED = 1


@pytest.mark.timeout(900)
def test_a_short_run_loses_nothing_and_does_nothing_twice() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seed", str(SEED), "--jobs", str(SHORT_JOBS)]
    search = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "client")))
    run = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": search}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    summary = json.loads(run.stdout.splitlines()[-1])
    assert summary["seed"] == SEED
    assert summary["jobs"] >= SHORT_JOBS
    assert min(summary["kills"], summary["stalls"], summary["broker_flushes"]) >= 1
    assert {name: summary[name] for name in vars(verdict.Findings())} == dict.fromkeys(vars(verdict.Findings()), 0)


def test_a_plan_depends_on_its_seed_alone() -> None:
    assert plan(3, 200) == plan(3, 200)
    assert plan(3, 200) != plan(4, 200)


def sabotaged(folder: Path, guard: str, planned: Plan, enough: Enough) -> Report:
    program = (sys.executable, "-m", "tests.chaos.sabotage", guard)
    return Harness(planned, folder, print, program).run(enough)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_the_token_check_it_finds_effects_that_happen_twice(tmp_path: Path) -> None:
    """A worker stands still until another does its work; its own child has ended, and it commits under no token."""
    jobs = [chaos(f"chaos-{number}", number * 2.0, pool) for number, pool in enumerate(("gpu", "cpu") * 8)]
    stalls = [PlannedFault("stall", 4.0 + 2 * number, number % 10 / 10) for number in range(10)]
    report = sabotaged(
        tmp_path,
        "tokens",
        Plan(0, tuple(jobs), tuple(stalls)),
        lambda witness: bool(verdict.duplicate_effects(witness)),
    )
    assert report.findings.duplicate_effects
    assert report.broken_promises()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_the_guard_of_states_it_finds_final_states_that_change(tmp_path: Path) -> None:
    """A job is cancelled while its second step runs: the first one had succeeded."""
    jobs = [chaos(f"chaos-{number}", number * 2.0, "cpu", cancel_after_seconds=4.0) for number in range(10)]
    report = sabotaged(
        tmp_path, "states", Plan(0, tuple(jobs)), lambda witness: bool(verdict.terminal_changes(witness))
    )
    assert report.findings.terminal_changes
    assert report.broken_promises()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kind", "found"), [("pause", "claimed in a paused pool"), ("drain", "a drained worker has claimed")]
)
def test_without_an_operator_s_orders_it_finds_what_is_claimed_all_the_same(
    tmp_path: Path, kind: str, found: str
) -> None:
    jobs = [chaos(f"chaos-{number}", number * 0.5, "cpu") for number in range(20)]
    orders = [PlannedFault(kind, 4.0 + 2 * number, 0.0, seconds=10.0) for number in range(3)]
    assert found in the_effect(tmp_path, "orders", Plan(0, tuple(jobs), tuple(orders)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_quotas_it_finds_a_team_that_runs_more_than_it_may(tmp_path: Path) -> None:
    jobs = tuple(chaos(f"chaos-{number}", 0.0, "cpu") for number in range(4))
    quota = PlannedFault("quota", 0.0, 0.0, seconds=20.0, jobs=jobs)
    assert "has run more than its quota" in the_effect(tmp_path, "quotas", Plan(0, (), (quota,)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_the_count_of_deaths_it_finds_work_that_goes_on_killing(tmp_path: Path) -> None:
    poison = tuple(fault for fault in plan(SEED, SHORT_JOBS).faults if fault.kind == "poison")
    assert "workers were to die over" in the_effect(tmp_path, "deaths", Plan(0, (), poison))


def the_effect(folder: Path, guard: str, planned: Plan) -> str:
    report = sabotaged(folder, guard, planned, lambda witness: bool(verdict.duplicate_effects(witness)))
    assert report.broken_promises()
    return " ".join(report.findings.duplicate_effects)


def chaos(name: str, at_seconds: float, pool: str, cancel_after_seconds: float | None = None) -> PlannedJob:
    recipe = {"method": "chaos", "label": name, "seconds": 7.0}
    return PlannedJob(
        name, at_seconds, team=0, model=0, recipe=recipe, pool=pool, cancel_after_seconds=cancel_after_seconds
    )
