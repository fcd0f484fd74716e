"""Runs the steps of a recipe one after the other, each in a real child as a worker starts it, without any queue."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.steps import Input, UnboundStep
from db.jobs import PlannedStep
from engines.context import Progress
from engines.recipe import parse_recipe
from pipeline.binding import describe
from pipeline.kinds import KINDS
from pipeline.plan import plan
from pipeline.step_kind import Outcome
from workers.disk_use import disk_bytes
from workers.process import Child
from workers.protocol import ChildSpec

TEAM = "team_bench"
LOG_CHARACTERS = 4000


class StepFailed(Exception):
    """A step did not succeed; the message is its error and the end of its log, which goes with the folder."""

    def __init__(self, kind: str, error: object, log: Path) -> None:
        super().__init__(f"{kind}: {error}\n{log.read_text(errors='replace')[-LOG_CHARACTERS:]}")


@dataclass
class Ran:
    """What a step came to.

    Attributes:
        outcome: its facts and scores.
        output: the folder with its files.
        wall_seconds: from the start of the process to its result.
        engine_seconds: of that, from the engine's first word to the result; before, its libraries are loaded.
        peak_vram_bytes: the most that torch held of the GPU; None where it computed on none.
        memory_bytes: the most that the process held, by phase: start, loading, layers, saving.
        scratch_bytes: the most that its folder held, likewise.
        layers_at: when it said that a layer was done, in seconds of a clock that only grows.
    """

    outcome: Outcome
    output: Path
    wall_seconds: float
    engine_seconds: float
    peak_vram_bytes: int | None = None
    memory_bytes: dict[str, int] = field(default_factory=dict)
    scratch_bytes: dict[str, int] = field(default_factory=dict)
    layers_at: list[float] = field(default_factory=list)


class Bench:
    """A place to run steps in.

    Args:
        folder: where everything is kept; a step that has been run there is not run again.
        device: ``cpu`` or ``cuda:N``.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder
        self._device = device
        self._ran: dict[str, Ran] = {}

    def run(self, recipe: str | Mapping[str, Any], model: Path, evaluation: Mapping[str, Any]) -> dict[str, Ran]:
        """Run all the steps of a recipe that work on files, and return them by kind.

        Raises:
            StepFailed: one did not succeed.
        """
        done: dict[str, Ran] = {}
        for planned in plan(parse_recipe(recipe), evaluation):
            if KINDS[planned.kind].reads == "files":  # there is no record here
                done[planned.kind] = self.step(planned, model, done)
        return done

    def step(self, planned: PlannedStep, model: Path, done: Mapping[str, Ran]) -> Ran:
        """Run one step whose needs are in ``done``, unless the same work has been done here.

        Raises:
            StepFailed: it did not succeed.
        """
        inputs = {
            kind: Input(kind, str(done[kind].output), done[kind].outcome.facts)
            for kind in planned.needs
            if kind in done
        }
        source = model.as_uri()
        unbound = UnboundStep("step", source, TEAM, planned.kind, planned.pool, source, planned.params, inputs)
        work = describe(unbound)
        if work.key not in self._ran:
            folders = {kind: str(done[kind].output) for kind in planned.needs if kind in done}
            self._ran[work.key] = self._run(self.spec(planned.kind, work.key[:12], work.params, folders))
        return self._ran[work.key]

    def spec(self, kind: str, name: str, params: Mapping[str, Any], inputs: Mapping[str, str]) -> ChildSpec:
        """Return what a child is given here, once its folders are made."""
        spec = ChildSpec(
            kind=kind,
            params=params,
            inputs=inputs,
            work=name,
            folder=str(self._folder / f"{kind}-{name}"),
            kernels=str(self._folder / "kernels"),
            threads=len(os.sched_getaffinity(0)),
            device=self._device,
            source_roots=["/"],
            publish_roots=[],
            method_modules=[],
        )
        for needed in (spec.output, spec.scratch, spec.checkpoint):
            needed.mkdir(parents=True)
        return spec

    def _run(self, spec: ChildSpec) -> Ran:
        watch = _Watch(Path(spec.folder))
        began = time.monotonic()
        with Child(spec, watch.follow, lambda _: None, lambda number: shutil.rmtree(spec.saved(number))) as child:
            outcome = child.wait(lambda: watch.look(child))
        if not isinstance(outcome, Outcome):
            raise StepFailed(spec.kind, outcome, spec.log)
        ended = time.monotonic()
        return Ran(
            outcome=outcome,
            output=spec.output,
            wall_seconds=ended - began,
            engine_seconds=ended - (watch.heard_at or began),
            peak_vram_bytes=child.peaks().vram_bytes,
            memory_bytes=watch.memory_bytes,
            scratch_bytes=watch.scratch_bytes,
            layers_at=watch.layers_at,
        )


class _Watch:
    """Looks at a child's memory and folder, by the phase that it says it is in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._phase = "start"
        self.memory_bytes: dict[str, int] = {}
        self.scratch_bytes: dict[str, int] = {}
        self.layers_at: list[float] = []
        self.heard_at: float | None = None

    def follow(self, progress: Progress) -> None:
        if progress.unit == "layers" and int(progress.done) > len(self.layers_at):
            self.layers_at.append(time.monotonic())
        self.heard_at = self.heard_at or time.monotonic()
        self._phase = progress.message if progress.message in ("loading", "saving") else progress.unit

    def look(self, child: Child) -> None:
        for seen, now in ((self.memory_bytes, child.memory_bytes()), (self.scratch_bytes, disk_bytes(self._folder))):
            seen[self._phase] = max(seen.get(self._phase, 0), now)
