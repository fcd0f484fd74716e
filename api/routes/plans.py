"""What a job would come to."""

from typing import Any

from apiflask import APIBlueprint

from api.auth import team_id
from api.openapi import problems
from api.planning import Plan, plan_request
from api.requests import JobRequest, NoQuery
from api.services import services

routes = APIBlueprint("plans", __name__, url_prefix="/v1", tag="Jobs")


@routes.post("/plan")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.input(JobRequest, arg_name="wanted")
@routes.output(Plan)
@routes.doc(responses=problems(400, 413, 415, 422))
def plan_job(wanted: JobRequest, _query: NoQuery) -> Any:
    """Plan a job without submitting it.

    The answer has its steps with what each will need, which of them were done before, and why it would be refused. A
    request that cannot be planned at all gets the problem that submitting it would get.
    """
    team = team_id()
    return services().database.run(lambda session: plan_request(session, team, wanted))
