"""``publish``: put the result where the team wants it, whole or not at all, once, however often it is tried."""

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.durable import sync
from core.errors import DestinationRefused
from core.steps import UnboundStep
from engines.context import EngineContext
from engines.methods.base import Forecast
from pipeline.copying import copy_files
from pipeline.destinations import PARAM, destination_folder
from pipeline.step_kind import MIB, Facts, Outcome, StepContext, StepKind

MARKER = ".fewbits-job"  # in a published folder: whose it is
PUBLISHED = ("quantize", "document")  # the steps whose files go there
BLOCKED = "blocked"  # the verdict with which nothing is published
ARRIVING = ".fewbits-arriving"  # the end of the name of a folder that is not whole yet


class Publish(StepKind):
    """The files arrive in a hidden folder beside the destination, which is then renamed: nobody sees a part of them.

    The folder names its job. An attempt that finds it there, as after a worker that died between the renaming and the
    commit, has nothing left to do.
    """

    name = "publish"
    version = 1
    is_external = True

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return that the work is our own."""
        return "fewbits"

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return a small need: nothing is kept in memory or on the scratch disk."""
        return Forecast(memory_bytes=256 * MIB, scratch_bytes=0)

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return the destination, whether the gate lets anything go there, and the job: each publishes for itself."""
        described = step.inputs.get("document")  # which an older version's plan has not
        verdict = None if described is None else described.facts.get("verdict")
        return {**step.params, "job": step.job_id, **({"verdict": verdict} if verdict is not None else {})}

    def run(self, context: StepContext) -> Outcome:
        """Copy the result and make it visible, unless its gate has blocked it.

        Raises:
            DestinationRefused: something else is there already, or it is not allowed.
            DoesNotFit: the disk there is full.
        """
        if context.params.get("verdict") == BLOCKED:
            return Outcome(facts={"published_to": None})
        job_id = context.params["job"]
        folder = destination_folder(context.params["to"], context.publish_roots)
        if not _is_published(folder, job_id):
            _check_free(folder, context.publish_roots)
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder, job_id)
            arriving = _arriving(folder, job_id)
            try:
                _copy(_files(context.inputs), arriving, context.engine)
                (arriving / MARKER).write_text(json.dumps({"job": job_id}) + "\n")
                _make_visible(arriving, folder, job_id)
            finally:
                shutil.rmtree(arriving, ignore_errors=True)
        return Outcome(facts={"published_to": folder.as_uri()})


def _is_published(folder: Path, job_id: str) -> bool:
    try:
        return bool(json.loads((folder / MARKER).read_text())["job"] == job_id)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_free(folder: Path, roots: tuple[Path, ...]) -> None:
    """Raise unless nothing is at the destination, and it is not inside of what another job has published."""
    if os.path.lexists(folder):
        raise _taken(folder)
    for above in folder.parents:
        if above in roots:
            return
        if (above / MARKER).exists():
            raise DestinationRefused(f"{above} is what another job has published. Choose another folder.", param=PARAM)


def _arriving(folder: Path, job_id: str) -> Path:
    return folder.parent / f".{folder.name}.{job_id}.{uuid.uuid4().hex}{ARRIVING}"


def _remove_leftovers(folder: Path, job_id: str) -> None:
    """Remove what an earlier attempt of the job, which was broken off, has left.

    An attempt that is only thought dead finds its folder gone, not a part of it, so it cannot make a part visible.
    """
    for path in list(folder.parent.iterdir()):
        if path.name.startswith(f".{folder.name}.{job_id}.") and path.name.endswith(ARRIVING):
            shutil.rmtree(path.rename(_arriving(folder, job_id)), ignore_errors=True)


def _files(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """Return what goes there, by name: the result and what describes it, which an older version's plan has not."""
    folders = [inputs[kind] for kind in PUBLISHED if kind in inputs]
    return {
        str(path.relative_to(folder)): path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _copy(files: Mapping[str, Path], arriving: Path, engine: EngineContext) -> None:
    arriving.mkdir()
    for name in files:
        for above in list(Path(name).parents)[-2::-1]:
            (arriving / above).mkdir(exist_ok=True)  # its parents never: `arriving` may have been moved away
    copy_files(files, arriving, engine, what="result", disk="destination's disk")
    for name in files:
        sync(arriving / name)


def _make_visible(arriving: Path, folder: Path, job_id: str) -> None:
    try:
        arriving.rename(folder)
    except OSError as error:
        if _is_published(folder, job_id):  # by an attempt that was thought dead
            return
        if os.path.lexists(folder):
            raise _taken(folder) from error
        raise
    sync(folder.parent)


def _taken(folder: Path) -> DestinationRefused:
    return DestinationRefused(
        f"There is something at {folder} already, and nothing is written over. Choose another folder, and submit the "
        "job again: what it has made is reused.",
        param=PARAM,
    )
