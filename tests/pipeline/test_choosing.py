"""Which result is recommended, in which words, and which no other beats."""

import dataclasses
from typing import Any

import pytest

from engines.gates import Condition
from engines.intervals import Estimate
from pipeline.choosing import Candidate, Recommendation, pareto, recommend

MB = 10**6
GATE = (Condition("perplexity_ratio", "code", max=1.02),)
TASK = "dataset_" + "1" * 26


def ratio(value: float, spread: float = 0.004) -> Estimate:
    return Estimate(value, value - spread, value + spread)


def result(name: str, size_mb: float, prose: float, code: float, agreement: float = 0.97, **values: Any) -> Candidate:
    measures = {
        domain: {"perplexity_ratio": ratio(loss), "agreement": Estimate(agreement, agreement - 0.01, agreement + 0.01)}
        for domain, loss in (("prose", prose), ("code", code))
    }
    known = {"is_over": True, "has_result": True, "size_bytes": round(size_mb * MB), "measures": measures}
    return Candidate(f"job_{name}", f"gguf:{name}", **{**known, **values})


def waiting(name: str, **values: Any) -> Candidate:
    known: dict[str, Any] = {"is_over": False, "has_result": False, "size_bytes": None, "measures": {}}
    return Candidate(f"job_{name}", f"gguf:{name}", **{**known, **values})


Q8 = result("Q8_0", 6700, 1.001, 1.002, 0.99)
Q6 = result("Q6_K", 5200, 1.003, 1.006, 0.98)
Q5 = result("Q5_K_M", 4900, 1.008, 1.010)
Q4 = result("Q4_K_M", 4000, 1.020, 1.025)
Q2 = result("Q2_K", 2400, 1.3, 1.4, 0.7)
ALL = [Q8, Q6, Q5, Q4, Q2]


def test_the_smallest_that_loses_little_enough_is_recommended_with_the_numbers() -> None:
    assert recommend(ALL, ()) == Recommendation(
        chosen="job_Q5_K_M",
        nearest=None,
        alike=(),
        is_provisional=False,
        reason="gguf:Q5_K_M (4.9 GB) is the smallest of 5 results that keeps prose and code perplexity within 2 % "
        "(at most +1.4 % on code) and prose and code agreement above 95 % (at least 96.0 % on prose).",
    )


def test_the_order_in_which_they_come_makes_no_difference() -> None:
    assert recommend(ALL[::-1], ()).chosen == recommend(ALL, ()).chosen


def test_the_worse_end_of_the_interval_decides() -> None:
    near = result("Q4_K_M", 4000, 1.008, 1.017)  # good enough by its value, not by the end of its interval
    assert recommend([Q5, near], GATE).chosen == "job_Q5_K_M"
    assert recommend([Q5, near], [Condition("perplexity_ratio", "code", max=1.0211)]).chosen == "job_Q4_K_M"
    few = result("Q4_K_M", 4000, 1.008, 1.012, 0.955)
    assert recommend([Q5, few], ()).chosen == "job_Q5_K_M"


def test_one_domain_alone_may_be_asked_for() -> None:
    reason = recommend(ALL, GATE).reason
    assert reason == (
        "gguf:Q5_K_M (4.9 GB) is the smallest of 5 results that keeps code perplexity within 2 % (at most +1.4 %)."
    )
    assert recommend(ALL, [Condition("perplexity_ratio", "prose", max=1.03)]).chosen == "job_Q4_K_M"


def test_a_condition_may_name_any_metric() -> None:
    measures = {"code": {"kl_divergence": Estimate(0.05, 0.04, 0.06), "of_tomorrow": Estimate(3, 2, 4)}}
    one = waiting("Q4_K_M", is_over=True, has_result=True, size_bytes=5 * MB, measures=measures)
    conditions = [Condition("kl_divergence", "code", max=0.1), Condition("of_tomorrow", min=1)]
    assert recommend([one], conditions).reason == (
        "gguf:Q4_K_M (5.0 MB) is the one result, and keeps code KL divergence below 0.1 (at most 0.06) and code of "
        "tomorrow above 1 (at least 2)."
    )


def test_what_cannot_be_told_from_it_at_nearly_its_size_is_named() -> None:
    alike = result("Q5_K_S", 4850, 1.009, 1.018)  # its interval reaches beyond the limit, and overlaps
    larger = result("Q5_1", 5010, 1.2, 1.010)
    also = result("Q5_0", 4950, 1.009, 1.011)
    found = recommend([*ALL, alike, larger, also], ())
    assert (found.chosen, found.alike) == ("job_Q5_K_M", ("job_Q5_K_S", "job_Q5_0"))
    assert found.reason.endswith(
        "Not to be told from it, at nearly its size: gguf:Q5_K_S (4.8 GB) and gguf:Q5_0 (5.0 GB)."
    )


def test_what_a_gate_has_blocked_is_not_as_good_as_what_it_passed() -> None:
    chosen, alike = result("A", 5000, 1.0, 1.01), result("B", 4950, 1.0, 1.012)
    passed = dataclasses.replace(chosen, verdict="passed")
    found = recommend([passed, dataclasses.replace(alike, verdict="blocked")], ())
    assert (found.chosen, found.alike) == (passed.id, ())


def test_if_none_meets_the_conditions_the_nearest_is_named_with_what_it_misses() -> None:
    found = recommend([Q4, Q2], ())
    assert (found.chosen, found.nearest) == (None, "job_Q4_K_M")
    assert found.reason == (
        "None of the 2 results meets the conditions. gguf:Q4_K_M (4.0 GB) comes nearest: prose perplexity may be "
        "+2.4 %, and +2 % is allowed (0.4 points too much) and code perplexity may be +2.9 %, and +2 % is allowed "
        "(0.9 points too much)."
    )
    assert recommend([Q2], ()).reason.startswith("The one result, gguf:Q2_K (2.4 GB), does not meet the conditions: ")
    assert "prose agreement may be 69.0 %, and 95 % is asked for (26 points too little)" in recommend([Q2], ()).reason


def test_without_intervals_the_nearest_is_that_which_has_lost_least() -> None:
    def unsure(name: str, size_mb: float, loss: float) -> Candidate:
        measures = {"prose": {"perplexity_ratio": Estimate(loss, None, None)}}
        return result(name, size_mb, loss, loss, measures=measures)

    assert recommend([unsure("Q8_0", 6700, 1.0), unsure("Q3_K_M", 3500, 1.2)], ()).nearest == "job_Q8_0"


def test_numbers_that_differ_do_not_look_the_same() -> None:
    close = result("Q4_K_M", 4000, 1.0, 1.01602)
    said = "code perplexity may be +2.002 %, and +2 % is allowed (0.002 points too much)"
    assert said in recommend([close, Q2], GATE).reason


def test_while_jobs_go_on_it_is_provisional() -> None:
    found = recommend([Q8, Q5, waiting("Q4_K_M"), waiting("Q3_K_M")], ())
    assert (found.chosen, found.is_provisional) == ("job_Q5_K_M", True)
    assert found.reason.startswith(
        "Provisional, as 2 of 4 jobs are not over: gguf:Q5_K_M (4.9 GB) is the smallest of 2"
    )
    nothing = recommend([waiting("Q4_K_M")], ())
    assert (nothing.chosen, nothing.nearest) == (None, None)
    assert nothing.reason == "Provisional, as 1 of 1 jobs are not over: no result has been measured yet."


def test_jobs_without_a_result_or_without_metrics_are_passed_over() -> None:
    failed = waiting("Q3_K_M", is_over=True)
    unmeasured = waiting("Q4_K_M", is_over=True, has_result=True, size_bytes=MB, measures={"prose": {}, "code": {}})
    assert recommend([failed, unmeasured, *ALL], ()).chosen == "job_Q5_K_M"
    assert recommend([failed, unmeasured], ()).reason == "No job has brought a result that was measured."
    assert recommend([], ()).reason == "No job has brought a result that was measured."
    assert pareto([failed, unmeasured]) == pareto([]) == frozenset()


def test_what_was_not_measured_is_not_met() -> None:
    old = {domain: {"perplexity_ratio": ratio(1.001)} for domain in ("prose", "code")}
    one = waiting("Q8_0", is_over=True, has_result=True, size_bytes=MB, measures=old)
    assert recommend([one], ()).reason.endswith("does not meet the conditions: agreement was not measured.")
    assert recommend([one, Q5], ()).chosen == "job_Q5_K_M"
    short = {"code": {"perplexity_ratio": Estimate(1.001, None, None)}}
    few = waiting("Q8_0", is_over=True, has_result=True, size_bytes=MB, measures=short)
    assert recommend([few], GATE).reason.endswith("code perplexity was measured on too little to tell.")
    assert recommend([one], [Condition("agreement", "poems", min=0.9)]).reason.endswith(
        "poems agreement was not measured."
    )


@pytest.mark.parametrize(("verdict", "chosen"), [("passed", "job_Q4_K_M"), ("blocked", "job_Q5_K_M")])
def test_the_gate_of_a_job_has_the_last_word(verdict: str, chosen: str) -> None:
    good = 1.005 if verdict == "blocked" else 1.05
    decided = result("Q4_K_M", 4000, good, good, verdict=verdict)
    assert recommend([Q5, decided], GATE).chosen == chosen
    if verdict == "blocked":
        assert "its gate has blocked it" in recommend([decided], GATE).reason


def test_of_equal_sizes_the_one_that_loses_less_is_chosen() -> None:
    worse, better = result("Q5_K_M", 4900, 1.008, 1.012), result("Q5_K_M+imatrix", 4900, 1.002, 1.004)
    assert recommend([worse, better], ()).chosen == "job_Q5_K_M+imatrix"


def test_the_pareto_set_is_what_no_other_beats_in_size_and_loss() -> None:
    beaten = result("Q5_1", 5000, 1.009, 1.011)  # Q5_K_M is smaller and loses less
    only_on_code = result("Q4_1", 4100, 1.03, 1.015)  # Q4_K_M is smaller, but loses more of code
    equal = result("Q5_K_M", 4900, 1.008, 1.010)
    assert pareto([*ALL, beaten, only_on_code]) == {one.id for one in [*ALL, only_on_code]}
    assert pareto([Q5, equal]) == {Q5.id}
    assert pareto([Q5, beaten]) == {Q5.id}


def test_speed_counts_where_it_is_known_of_all_by_one_runtime() -> None:
    def served(slow: float | None, runtimes: tuple[str, str] = ("llama.cpp", "llama.cpp")) -> frozenset[str]:
        small = result("Q4_K_M", 4000, 1.02, 1.02, generation_tokens_per_second=slow, runtime=runtimes[0])
        large = result("Q4_1", 4100, 1.03, 1.03, generation_tokens_per_second=20.0, runtime=runtimes[1])
        return pareto([small, large])

    assert served(10.0) == {"job_Q4_K_M", "job_Q4_1"}
    assert served(30.0) == {"job_Q4_K_M"}
    assert served(None) == {"job_Q4_K_M"}
    assert served(10.0, ("llama.cpp", "vllm")) == {"job_Q4_K_M"}


def test_a_result_that_was_not_judged_on_each_text_is_not_compared() -> None:
    part = {"prose": {"perplexity_ratio": ratio(1.0)}}
    one = waiting("Q2_K", is_over=True, has_result=True, size_bytes=MB, measures=part)
    assert pareto([Q5, one]) == {Q5.id}


def solved(one: Candidate, value: float) -> Candidate:
    """Return a result that was judged by a task, too."""
    in_task = {"accuracy_drop": Estimate(value, value - 0.01, value + 0.01)}
    return dataclasses.replace(one, measures={**one.measures, TASK: in_task})


def test_a_condition_of_tasks_holds_on_tasks_alone() -> None:
    few = [solved(Q8, 0.0), solved(Q5, 0.005), solved(Q4, 0.04)]
    found = recommend(few, [Condition("accuracy_drop", max=0.02)])
    assert found.chosen == "job_Q5_K_M"
    assert f"keeps {TASK} loss of accuracy below 2 % (at most 1.5 %)" in found.reason
    named = recommend(few, [Condition("accuracy_drop", task=TASK, max=0.01)])
    assert named.chosen == "job_Q8_0"
    nothing = recommend(few, [Condition("rouge_l_drop", task=TASK, max=0.01)])
    assert (nothing.chosen, nothing.reason.count(f"{TASK} loss of ROUGE-L was not measured")) == (None, 1)


def test_tasks_change_nothing_where_no_condition_is_of_them() -> None:
    assert recommend([solved(one, 0.5) for one in ALL], ()) == recommend(ALL, ())
    assert pareto([solved(one, 0.5) for one in ALL]) == pareto(ALL)
