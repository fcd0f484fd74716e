"""What ``reference`` and ``evaluate`` share: run the one evaluator, and put its scores into rows."""

from typing import Any

from core.steps import EvaluationRow, UnboundStep
from engines import evaluation
from engines.runtimes import Runtime
from pipeline.step_kind import Outcome, StepContext


def judged(step: UnboundStep) -> dict[str, Any]:
    """Return the parameters of the work: with the texts themselves, since another text gives other scores."""
    texts = {domain: evaluation.text_digest(domain) for domain in step.params["domains"]}
    return {**step.params, "texts": texts}


def judge(context: StepContext, runtime: Runtime) -> Outcome:
    """Score an entered model on the domains and windows of the parameters, with the source's tokenizer."""
    domains, windows = context.params["domains"], context.params["windows"]
    scores = evaluation.evaluate(runtime, context.inputs["fetch"], domains, windows, context.engine.report)
    rows = [
        EvaluationRow(
            domain=domain,
            perplexity=score["perplexity"],
            window_count=score["windows"],
            token_count=score["tokens"],
            window_nll=score["negative_log_likelihood"],
        )
        for domain, score in scores.items()
    ]
    warnings = [
        f"The text {row.domain!r} has {row.window_count} windows for this tokenizer; {windows} were asked for."
        for row in rows
        if row.window_count < windows
    ]
    return Outcome(facts={"device": context.engine.device}, evaluations=rows, warnings=warnings)
