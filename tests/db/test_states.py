"""The page about statuses says what the code's table says."""

import re

from db.states import ExecutionStatus, JobStatus, Status, StepStatus, followers
from tests.conftest import REPOSITORY

KINDS: dict[str, type[Status]] = {"job": JobStatus, "step": StepStatus, "execution": ExecutionStatus}
ROW = re.compile(r"\| (job|step|execution) \| (\w+) \| (\w+) \| .+ \|")


def test_the_documented_transitions_are_those_of_the_code() -> None:
    page = (REPOSITORY / "docs" / "state_machine.md").read_text()
    documented = [match.groups() for line in page.splitlines() if (match := ROW.fullmatch(line))]
    known = [
        (name, origin.value, target) for name, kind in KINDS.items() for origin in kind for target in followers(origin)
    ]
    assert sorted(documented) == sorted(known)
