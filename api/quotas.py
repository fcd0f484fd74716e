"""The limits of a team that has none of its own, as the operator has set them. For the API, and for ``fewbitsd``."""

from collections.abc import Mapping

from core.settings import Settings
from db.states import Quota


def default_quotas(settings: Settings) -> Mapping[Quota, int | None]:
    """Return every limit; None where there is none."""
    return {
        Quota.QUEUED_JOBS: settings.team_queued_jobs_max,
        Quota.RUNNING_CPU: settings.team_running_max,
        Quota.RUNNING_GPU: settings.team_running_max,
        Quota.DATASETS: settings.team_datasets_max,
    }
