"""What can be asked about sweeps: many recipes on one source, to be compared."""

from collections.abc import Iterator, Sequence
from typing import Any, Unpack, cast

from fewbits_client.calls import sweep_path
from fewbits_client.creating import sweep_request
from fewbits_client.errors import UnexpectedAnswer
from fewbits_client.job_calls import JobCalls
from fewbits_client.objects import SubmitOptions
from fewbits_client.sweeps import Recipe, Sweep, unfinished_jobs


class SweepCalls(JobCalls):
    """The calls about sweeps; whoever waits for one follows its jobs."""

    def submit_sweep(
        self,
        source: str,
        recipes: Sequence[Recipe] | None = None,
        *,
        preset: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Sweep:
        """Ask for many recipes on one source, to be compared; where no answer comes, again, and still for one sweep.

        Args:
            source: as in `submit`.
            recipes: each as in `submit`.
            preset: a list of recipes by its name, in place of one: ``gguf-all``, ``gpu-4bit`` or ``everything``.
            idempotency_key: as in `submit`.
            **options: as in `submit`; `publish_to` is a folder in which each result gets one of its own.

        Raises:
            Problem: the server refused, and nothing was made; its errors name the fields.
            Unreachable: as in `submit`.
        """
        return _a_sweep(self._create("/v1/sweeps", sweep_request(source, recipes, preset, options), idempotency_key))

    def sweep(self, sweep_id: str) -> Sweep:
        """Return a sweep as it is now: a row for each recipe, and which of them is recommended."""
        return _a_sweep(self._connection.call("GET", sweep_path(sweep_id)))

    def sweeps(self) -> Iterator[Sweep]:
        """Yield the team's sweeps, newest first, without what is inside."""
        return self._pages("/v1/sweeps", None, {})

    def extend_sweep(self, sweep_id: str, recipes: Sequence[Recipe], *, idempotency_key: str | None = None) -> Sweep:
        """Add recipes to a sweep, whether it has ended or not; only these run.

        Raises:
            Problem: the server refused; its errors name what is there already.
            Unreachable: as in `submit`.
        """
        path = f"{sweep_path(sweep_id)}/recipes"
        return _a_sweep(self._create(path, {"recipes": list(recipes)}, idempotency_key))

    def cancel_sweep(self, sweep_id: str) -> Sweep:
        """Ask for each job of a sweep that is not over to be stopped.

        Raises:
            Problem: with status 409, where nothing can be cancelled any more.
        """
        return _a_sweep(self._connection.call("POST", f"{sweep_path(sweep_id)}/cancel"))

    def wait_for_sweep(self, sweep_id: str) -> Sweep:
        """Return a sweep once all of its jobs are over, those that were added meanwhile, too."""
        while unfinished := unfinished_jobs(sweep := self.sweep(sweep_id)):
            for _ in self.stream_all(unfinished):
                pass
        return sweep


def _a_sweep(value: dict[str, Any]) -> Sweep:
    """Return the sweep that the server sent, known to be one."""
    if value.get("object") != "sweep":
        raise UnexpectedAnswer("the server sent something else where a sweep belongs; is the URL right?")
    return cast("Sweep", value)
