"""From what a client asked for to a sweep with its jobs, or to further jobs of one, in the caller's transaction.

All of it is written, or nothing. Refuses to know: who asks, and how the answer is sent.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from api.considering import Considered, consider
from api.quotas import default_quotas
from api.requests import JobRequest, JobTerms, RecipeForm
from api.services import services
from api.submitting import new_job, stored_request
from api.sweep_requests import RECIPES_MAX, SweepRequest
from core.errors import Conflict, InvalidRequest, RequestError
from core.ids import SweepId, TeamId
from core.manifest import canonical_json
from db import quotas, sweeps
from db.jobs import NewJob
from db.shown import ShownJob
from db.states import JobStatus
from db.sweeps import NewSweep
from engines.recipe import Recipe, parse_recipe
from pipeline.sweep_presets import SweepPreset, preset_recipes

RECIPE = "recipe"  # in a job's errors; in a sweep's it is one of many
RECIPES = "recipes"
PRESET = "preset"
# What a folder may be called after: the short form of a recipe without what means something in a path or a shell.
_UNFIT = re.compile(r"[^A-Za-z0-9._+-]+")

Asked = tuple[JobRequest, Considered]


def submit_sweep(session: Session, team_id: TeamId, wanted: SweepRequest) -> SweepId:
    """Write the sweep that a request asks for, with a job for each recipe.

    Raises:
        RequestError: something in it is not what this service takes; one recipe that is refused refuses all, and
            ``param`` says which. Of a preset those that do not fit are left out, unless none fits.
        QuotaExceeded: the team may not queue as many jobs.
    """
    terms = wanted.terms
    warnings: list[str] = []
    if wanted.preset is None:
        asked = _consider_all(session, team_id, terms, wanted.recipes, ())
    else:
        asked, warnings = _consider_preset(session, team_id, terms, wanted.preset)
    source = asked[0][1].source
    new = NewSweep(source, wanted.preset, {**terms, "source": source}, warnings)
    return sweeps.submit(session, team_id, new, _new_jobs(session, team_id, asked))


def extend_sweep(session: Session, team_id: TeamId, sweep_id: str, recipes: Sequence[RecipeForm]) -> SweepId:
    """Write further jobs of a sweep, whether it has ended or not.

    Raises:
        NotFound: there is none of that id in this team.
        RequestError: a recipe is refused, or there already; ``param`` says which.
        Conflict: a sweep does not take as many.
        QuotaExceeded: the team may not queue as many jobs.
    """
    sweep = sweeps.get_locked(session, team_id, sweep_id)
    there = sweeps.jobs_of(session, sweep.id)
    if len(there) + len(recipes) > RECIPES_MAX:
        raise Conflict(
            f"A sweep takes {RECIPES_MAX} recipes, and this one has {len(there)} already. Submit another sweep."
        )
    terms = stored_request(JobTerms, sweep.request).model_dump(mode="json")
    asked = _consider_all(session, team_id, terms, recipes, there)
    sweeps.extend(session, team_id, sweep.id, _new_jobs(session, team_id, asked))
    return SweepId(sweep.id)


def _consider_all(
    session: Session,
    team_id: TeamId,
    terms: Mapping[str, Any],
    recipes: Sequence[RecipeForm],
    there: Sequence[ShownJob],
) -> list[Asked]:
    """Consider recipes of which each must be taken, and none be there already."""
    folders = _Folders(terms["publish_to"], (job.publish_to for job in there))
    known = {canonical_json(job.recipe): _where_in_sweep(job) for job in there}
    asked = []
    for index, form in enumerate(recipes):
        try:
            recipe = parse_recipe(form)
            if (where := known.get(canonical_json(recipe.document()))) is not None:
                raise InvalidRequest(f"This is {recipe.short}, {where}", param=RECIPE)
            known[canonical_json(recipe.document())] = f"as {RECIPES}/{index} is. Leave it out."
            one = _consider(session, team_id, terms, form, folders.new(recipe))
            for refusal in one[1].refusals:
                raise refusal
        except RequestError as error:
            error.param = _param_in_sweep(error.param, f"{RECIPES}.{index}")
            raise
        asked.append(one)
    return asked


def _where_in_sweep(job: ShownJob) -> str:
    if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        return f"which the sweep has already and is {job.status}. Try it again by POST /v1/jobs/{job.id}/retry."
    return "which the sweep has already. Leave it out."


def _consider_preset(
    session: Session, team_id: TeamId, terms: Mapping[str, Any], preset: SweepPreset
) -> tuple[list[Asked], list[str]]:
    """Consider the recipes of a preset; return those that fit, and of the others why they do not."""
    folders = _Folders(terms["publish_to"], ())
    asked, warnings = [], []
    for recipe in preset_recipes(preset):
        one = _consider(session, team_id, terms, recipe.document(), folders.new(recipe))
        considered = one[1]
        for refusal in considered.refusals:
            if refusal not in considered.misfits:  # it would refuse any recipe
                raise refusal
        if considered.misfits:
            warnings.append(f"{recipe.short} is left out: {considered.misfits[0].message}")
        else:
            asked.append(one)
    if not asked:
        raise InvalidRequest(f"No recipe of the preset {preset} can be used. {warnings[0]}", param=PRESET)
    return asked, warnings


def _consider(
    session: Session, team_id: TeamId, terms: Mapping[str, Any], recipe: RecipeForm, publish_to: str | None
) -> Asked:
    wanted = stored_request(JobRequest, {**terms, RECIPE: recipe, "publish_to": publish_to})
    return wanted, consider(session, team_id, wanted, asks_for_place=False)


def _new_jobs(session: Session, team_id: TeamId, asked: Sequence[Asked]) -> list[NewJob]:
    quotas.require_place(session, team_id, default_quotas(services().settings), len(asked))
    return [new_job(wanted, considered) for wanted, considered in asked]


def _param_in_sweep(param: str | None, recipe: str) -> str | None:
    """Return the place in a sweep's request of what an error names in a job's."""
    if param is not None and (param == RECIPE or param.startswith(f"{RECIPE}.")):
        return recipe + param.removeprefix(RECIPE)
    return param


class _Folders:
    """The folders of results, each its own, in the one that a sweep publishes to.

    Args:
        publish_to: that one; None where nothing is published.
        taken: folders of the sweep's jobs that are there already.
    """

    def __init__(self, publish_to: str | None, taken: Iterable[str | None]) -> None:
        self._above = publish_to and publish_to.rstrip("/")
        self._taken = {folder.rpartition("/")[2] for folder in taken if folder is not None}

    def new(self, recipe: Recipe) -> str | None:
        """Return the folder of a recipe's result; of two with one short form the second is told by its digest."""
        if self._above is None:
            return None
        name = _UNFIT.sub("-", recipe.short)
        if name in self._taken:
            name = f"{name}-{hashlib.sha256(canonical_json(recipe.document())).hexdigest()[:8]}"
        self._taken.add(name)
        return f"{self._above}/{name}"
