"""What can be had of jobs and sweeps that have come to something: their files and their reports."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewbits_client import download
from fewbits_client.calls import Calls, items_of, job_path, sweep_path
from fewbits_client.objects import Artifact, ArtifactFile


class ResultCalls(Calls):
    """The calls about what was made."""

    def artifacts(self, job_id: str) -> list[Artifact]:
        """Return what the job has produced."""
        return items_of(self._connection.call("GET", f"{job_path(job_id)}/artifacts"))

    def download(
        self,
        job_id: str,
        folder: str | Path,
        *,
        force: bool = False,
        on_progress: Callable[[ArtifactFile, int], None] | None = None,
    ) -> list[Path]:
        """Fetch every file of the job's artifacts into a folder.

        A connection that breaks is taken up where it broke, also by a later call. Each file is verified before it
        gets its name; one that is already there and identical is left as it is.

        Args:
            job_id: which job.
            folder: where to; it is made where it does not exist.
            force: replace files that are there and different.
            on_progress: called with a file and the bytes of it that are on the disk.

        Returns:
            Where the files are, in the artifacts' order.

        Raises:
            UnsafeFileName: the server names a file outside the folder; nothing was written.
            FileConflict: a different file is there; nothing was written.
            DigestMismatch: what came is not what was listed.
            Unreachable: the server was never there, or stayed away for `patience_seconds`.
            OSError: the disk refused.
        """
        report = on_progress or (lambda _file, _bytes: None)
        found = download.targets(job_id, self.artifacts(job_id), Path(folder))
        missing = [target for target in found if download.needed(target, force=force)]
        for target in missing:
            download.fetch(self._connection, target, backoff=self._backoff(), on_progress=report)
        return [target.path for target in found]

    def report(self, object_id: str) -> str:
        """Return the report of a job or of a sweep: one HTML page that needs nothing else.

        Raises:
            Problem: with status 404, where there is none yet.
        """
        return self._connection.text(_report_path(object_id), media_type="text/html")

    def report_facts(self, object_id: str) -> dict[str, Any]:
        """Return what a report is made of: of a job its ``fewbits.json``, of a sweep what `sweep` returns.

        Raises:
            Problem: as with `report`.
        """
        return self._connection.call("GET", _report_path(object_id), headers={"Accept": "application/json"})


def _report_path(object_id: str) -> str:
    return f"{sweep_path(object_id) if object_id.startswith('sweep_') else job_path(object_id)}/report"
