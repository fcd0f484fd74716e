"""Runs the steps of a recipe one after the other, each in a real child as a worker starts it, without any queue."""

import dataclasses
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
from workers.protocol import ChildSpec, Left
from workers.time_left import TimeLeft

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
        layers_at: when it first said that so many layers were done, in seconds from the engine's first word.
        left_at_quarter: how long the rest takes, as was said after a quarter of the layers, and as it was; None where
            nothing was said.
    """

    outcome: Outcome
    output: Path
    wall_seconds: float
    engine_seconds: float
    peak_vram_bytes: int | None = None
    memory_bytes: dict[str, int] = field(default_factory=dict)
    scratch_bytes: dict[str, int] = field(default_factory=dict)
    layers_at: dict[int, float] = field(default_factory=dict)
    left_at_quarter: tuple[float, float] | None = None


@dataclass(frozen=True)
class Leave:
    """How a step left that was asked to: how long it took, and what it kept to go on from."""

    seconds: float
    kept_bytes: int


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
        spec = self._bound(planned, model, done)
        if spec.work not in self._ran:
            self._ran[spec.work] = self._run(_with_folders(spec))
        return self._ran[spec.work]

    def drop(self, ran: Ran) -> None:
        """Forget a step that has been run, and remove what it left: the next would find the disk full."""
        self._ran = {key: one for key, one in self._ran.items() if one is not ran}
        shutil.rmtree(ran.output.parent)

    def broken_off(self, planned: PlannedStep, model: Path, done: Mapping[str, Ran], layers: int) -> tuple[Leave, Ran]:
        """Run one step, have it leave after some layers, and go on with it in another child, in another folder.

        Raises:
            StepFailed: it did not leave, or not succeed afterwards.
        """
        spec = self._bound(planned, model, done)
        first = _with_folders(dataclasses.replace(spec, folder=f"{spec.folder}-left"))
        left = self._leave(first, layers)
        second = _with_folders(dataclasses.replace(spec, folder=f"{spec.folder}-resumed"))
        shutil.copytree(first.checkpoint, second.checkpoint, dirs_exist_ok=True)
        shutil.rmtree(first.folder)
        return left, self._run(second)

    def _bound(self, planned: PlannedStep, model: Path, done: Mapping[str, Ran]) -> ChildSpec:
        inputs = {
            kind: Input(kind, str(done[kind].output), done[kind].outcome.facts)
            for kind in planned.needs
            if kind in done
        }
        source = model.as_uri()
        unbound = UnboundStep("step", source, TEAM, planned.kind, planned.pool, source, planned.params, inputs)
        work = describe(unbound)
        folders = {kind: str(done[kind].output) for kind in planned.needs if kind in done}
        return self.spec(planned.kind, work.key[:12], work.params, folders)

    def spec(self, kind: str, name: str, params: Mapping[str, Any], inputs: Mapping[str, str]) -> ChildSpec:
        """Return what a child is given here."""
        return ChildSpec(
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

    def _leave(self, spec: ChildSpec, layers: int) -> Leave:
        asked_at = 0.0

        def follow(progress: Progress) -> None:
            nonlocal asked_at
            if progress.unit == "layers" and progress.done >= layers and not asked_at:
                asked_at = time.monotonic()
                child.ask_to_leave()

        with Child(spec, follow, lambda _: None, lambda number: shutil.rmtree(spec.saved(number))) as child:
            outcome = child.wait(lambda: None)
        if not isinstance(outcome, Left):
            raise StepFailed(spec.kind, f"it did not leave, but ended with {outcome}", spec.log)
        return Leave(seconds=time.monotonic() - asked_at, kept_bytes=disk_bytes(spec.checkpoint))

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
            left_at_quarter=watch.left_at_quarter(ended),
        )


class _Watch:
    """Looks at a child's memory and folder, by the phase that it says it is in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._phase = "start"
        self.memory_bytes: dict[str, int] = {}
        self.scratch_bytes: dict[str, int] = {}
        self.layers_at: dict[int, float] = {}
        self.heard_at: float | None = None
        self._time_left = TimeLeft()
        self._at_quarter: tuple[float, float] | None = None  # what was said to be left, and when

    def follow(self, progress: Progress) -> None:
        self.heard_at = self.heard_at or time.monotonic()
        left = self._time_left.hear(progress).seconds_left
        if progress.unit == "layers" and left is not None and progress.done >= progress.total / 4:
            self._at_quarter = self._at_quarter or (left, time.monotonic())
        if progress.unit == "layers" and progress.done >= 1:
            self.layers_at.setdefault(int(progress.done), time.monotonic() - self.heard_at)
        self._phase = progress.message if progress.message in ("loading", "saving") else progress.unit

    def left_at_quarter(self, ended: float) -> tuple[float, float] | None:
        return None if self._at_quarter is None else (self._at_quarter[0], ended - self._at_quarter[1])

    def look(self, child: Child) -> None:
        for seen, now in ((self.memory_bytes, child.memory_bytes()), (self.scratch_bytes, disk_bytes(self._folder))):
            seen[self._phase] = max(seen.get(self._phase, 0), now)


def _with_folders(spec: ChildSpec) -> ChildSpec:
    for needed in (spec.output, spec.scratch, spec.checkpoint):
        needed.mkdir(parents=True)
    return spec
