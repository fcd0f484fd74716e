"""What the team may have at once, and what it has."""

from typing import Any

from apiflask import APIBlueprint

from api import pages
from api.auth import team_id
from api.openapi import problems
from api.presenting import quota_object
from api.quotas import default_quotas
from api.requests import NoQuery
from api.services import services
from db import quotas

routes = APIBlueprint("quotas", __name__, url_prefix="/v1", tag="Quotas")


@routes.get("/quotas")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(pages.QuotaPage)
@routes.doc(responses=problems(422))
def list_quotas(_query: NoQuery) -> Any:
    """List the team's limits, and how much of each is used.

    A job beyond `queued_jobs` and a dataset beyond `datasets` are refused with status 429; executions beyond
    `running_cpu` and `running_gpu` wait.
    """
    team, defaults = team_id(), default_quotas(services().settings)
    shares = services().database.run(lambda session: quotas.shares(session, team, defaults))
    return pages.QuotaPage(data=[quota_object(share) for share in shares], has_more=False)
