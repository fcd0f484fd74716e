"""``fewbitsd`` with one of its guards taken out, so that the harness can show that it finds what then goes wrong.

Started as ``python -m tests.chaos.sabotage WHAT …``, where what follows is a command of ``fewbitsd``.
"""

import sys
from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_
from sqlalchemy.orm import Session

from db import tokens, transition
from db.states import ExecutionStatus, Status
from db.tables import Execution, Job


def forget_tokens() -> None:
    """Let whoever once held an execution write, as long as anybody holds it."""

    def is_held(lease: tokens.Lease) -> ColumnElement[bool]:
        return and_(Execution.id == lease.execution_id, Execution.status == ExecutionStatus.RUNNING.value)

    tokens.is_held = is_held
    # Only now, so that it takes the condition that was put in place.
    from db import lease as leases
    from db.locks import lock_execution

    def hold(session: Session, lease: tokens.Lease) -> tuple[Execution, Sequence[Job]]:
        execution, jobs = lock_execution(session, lease.execution_id)
        if execution.status != ExecutionStatus.RUNNING:
            raise tokens.LeaseLost
        return execution, jobs

    leases._hold = hold


def forget_states() -> None:
    """Let any status follow any other."""

    def origins(status: Status) -> list[str]:
        return [origin.value for origin in type(status)]

    transition.origins = origins  # type: ignore[attr-defined]  # its name in the module that uses it


SABOTAGES = {"tokens": forget_tokens, "states": forget_states}


def main() -> None:
    """Take out the guard that is named first, and run the command that follows."""
    what = sys.argv.pop(1)
    SABOTAGES[what]()
    from server.cli import main as fewbitsd

    fewbitsd()


if __name__ == "__main__":
    main()
