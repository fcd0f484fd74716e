"""What became of a gate, in a line: what kept a result from being published, and by how much."""

from typing import Any

from fewbits_client.cli.wording import verdict


def outcome(decision: str, measured: dict[str, Any] | None) -> dict[str, Any]:
    return {"short": "prose: perplexity_ratio <= 1.02", "decision": decision, "measured": measured}


def test_of_a_blocked_result_it_is_told_what_was_missed_and_what_could_not_be_decided() -> None:
    gate = [
        outcome("passed", {"value": 1.0, "low": 1.0, "high": 1.01}),
        outcome("blocked", {"value": 1.05, "low": 1.03, "high": 1.07}),
        outcome("undecided", {"value": 1.01, "low": None, "high": None}),
        outcome("undecided", None),
    ]
    job: Any = {"verdict": "blocked", "result": {"looks": 2, "gate": gate}}
    condition = "prose: perplexity_ratio <= 1.02"
    assert verdict(job) == (
        f"blocked after 2 looks, nothing was published: {condition} is blocked at 1.0500 [1.0300, 1.0700]; "
        f"{condition} could not be decided at 1.0100; {condition} could not be decided"
    )
