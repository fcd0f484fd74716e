"""`plan`: what jobs would come to, before they are submitted."""

from typing import Any

import click

from fewbits_client.cli.asking import Recipes, asks_for_a_job, given
from fewbits_client.cli.command import talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.wording import clock, size
from fewbits_client.client import Client
from fewbits_client.objects import Plan, PlannedStep


@click.command()
@asks_for_a_job
@talks_to_server
def plan(client: Client, output: Output, source: str, recipes: Recipes, **options: Any) -> Exit:
    """Show what `submit` with the same arguments would come to; nothing is submitted.

    Each step with what it will need, which were done before, about how large the result will be, and why the job would
    be refused: then the exit status is 5.  With --json one list of the plans.
    """
    plans = [client.plan(source, recipe, **given(options)) for recipe in recipes]
    if output.as_json:
        output.page(plans)
    for index, one in enumerate([] if output.as_json else plans):
        if index:
            output.line("")
        _show(output, one)
    return Exit.REFUSED if any(one["refusals"] for one in plans) else Exit.OK


def _show(output: Output, plan: Plan) -> None:
    model = plan["model"]
    seen = (
        "cannot be seen from the server: nothing can be forecast"
        if model is None
        else (
            f"{model['architecture']}, {model['layer_count']} layers, {size(model['size_bytes'])} of {model['dtype']}"
        )
    )
    output.line(f"{plan['recipe']} of {plan['source']} ({seen})")
    columns = ["step", "pool", "memory", "GPU memory", "scratch disk", "time", "done before"]
    table(columns, [_row(step) for step in plan["steps"]])
    if any(step.get("seconds") for step in plan["steps"]):
        output.line("time: about, on an NVIDIA H100 or, in the pool cpu, on two cores")
    if plan["result_bytes"] is not None:
        output.line(f"the result will take about {size(plan['result_bytes'])}")
    if any(step["reused"] for step in plan["steps"]):
        output.line(f"done before, if the source has not changed since {plan['fetched_at']}")
    for warning in plan["warnings"]:
        output.line(f"warning: {warning}")
    for refusal in plan["refusals"]:
        output.line(f"refused: {refusal['message']}")


def _row(step: PlannedStep) -> list[str]:
    needs = [size(step["memory_bytes"]), size(step["vram_bytes"]), size(step["scratch_bytes"])]
    return [step["kind"], step["pool"], *needs, clock(step.get("seconds")), "yes" if step["reused"] else ""]
