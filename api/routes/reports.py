"""Reports, to be read in a browser or kept: of a job as it was written with the result, of a sweep as it is now."""

from apiflask import APIBlueprint
from flask import Response, request

from api.auth import team_id
from api.byte_range import ByteRange
from api.openapi import SCHEMAS, problems
from api.requests import NoQuery
from api.routes.artifacts import stored_bytes
from api.routes.sweeps import read_sweep
from api.services import services
from api.sweep_report import sweep_report
from core.errors import NotFound
from db import jobs
from db.states import JobStatus, is_terminal
from db.tables import ArtifactFile
from pipeline.provenance import PROVENANCE_NAME, REPORT_NAME

HTML, JSON = "text/html", "application/json"
# What a page of ours may do in a browser that has a session here: show itself, and nothing else.
POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PAGE = {HTML: {"schema": {"type": "string"}}}
_JOB_ANSWER = {
    "description": "The report; as JSON it is fewbits.json, whose schema is at /v1/schemas/fewbits.json",
    "content": {**_PAGE, JSON: {"schema": {"type": "object"}}},
}
_SWEEP_ANSWER = {
    "description": "The report; as JSON it is the sweep",
    "content": {**_PAGE, JSON: {"schema": {"$ref": f"{SCHEMAS}Sweep"}}},
}

routes = APIBlueprint("reports", __name__, url_prefix="/v1", tag="Reports")


@routes.get("/jobs/<id:job_id>/report")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.doc(responses={200: _JOB_ANSWER, **problems(404, 422, 503)})
def get_job_report(job_id: str, _query: NoQuery) -> Response:
    """Read the report of a job: one HTML file that needs nothing else, or JSON where the header Accept prefers it.

    It is there once the job has succeeded, also where its gate has blocked the result.
    """
    media_type = _wanted()
    file = _documents(job_id, PROVENANCE_NAME if media_type == JSON else REPORT_NAME)
    body = b"".join(stored_bytes(file.sha256, ByteRange(0, file.size_bytes, is_partial=False)))
    return _answer(body, media_type, f"{job_id}-report")


@routes.get("/sweeps/<id:sweep_id>/report")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.doc(responses={200: _SWEEP_ANSWER, **problems(404, 422)})
def get_sweep_report(sweep_id: str, _query: NoQuery) -> Response:
    """Read the report of a sweep as it is now: one HTML file, or JSON where the header Accept prefers it."""
    team, media_type = team_id(), _wanted()
    sweep = services().database.run(lambda session: read_sweep(session, team, sweep_id))
    body = sweep.model_dump_json() if media_type == JSON else sweep_report(sweep, request.url_root)
    return _answer(body.encode(), media_type, f"{sweep_id}-report")


def _wanted() -> str:
    return request.accept_mimetypes.best_match([HTML, JSON]) or HTML


def _documents(job_id: str, name: str) -> ArtifactFile:
    """Return a file that describes the result of a job of the team's.

    Raises:
        NotFound: there is no such job, or it has no report.
    """
    team, database = team_id(), services().database
    job = database.run(lambda session: jobs.get(session, team, job_id))
    for artifact in database.run(lambda session: jobs.results(session, team, job_id)):
        for file in artifact.files:
            if artifact.format == jobs.DOCUMENTS and file.name == name:
                return file
    if is_terminal(JobStatus(job.status)):
        raise NotFound(f"This job has no report: it is {job.status}, or an earlier version of fewbits ran it.")
    raise NotFound("This job has no report yet: it is written at the end, once the result has been judged.")


def _answer(body: bytes, media_type: str, name: str) -> Response:
    ending = "json" if media_type == JSON else "html"
    headers = {
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'inline; filename="{name}.{ending}"',
        "Content-Security-Policy": POLICY,
        "Vary": "Accept",
    }
    return Response(body, headers=headers, mimetype=media_type)
