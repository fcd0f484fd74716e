"""What a job is asked for with on a command line: a source, recipes and options, checked as far as they can be here."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import click

from fewbits_client.cli.command import URL_SCHEME, source_argument
from fewbits_client.objects import SubmitOptions

Recipes = Sequence[str | Mapping[str, Any]]
Command = TypeVar("Command", bound=Callable[..., Any])
PRESETS = ("gguf-all", "gpu-4bit", "everything")


def _destination_url(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return the destination as a URL; the folder is the server's, and is not there yet."""
    if value is None or URL_SCHEME.match(value):
        return value
    return Path(value).expanduser().resolve().as_uri()


def _pairs(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for value, (name, equals, _) in zip(values, pairs, strict=True):
        if not name or not equals:
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE")
    return {name: text for name, _, text in pairs}


def _recipes(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> Recipes:
    """Return each recipe as the API takes it: a short form is a text, a long form an object."""
    try:
        return [
            json.loads(value, parse_constant=_refuse_constant) if value.lstrip().startswith("{") else value
            for value in values
        ]
    except ValueError as error:
        raise click.BadParameter(f"a recipe that begins with {{ must be a JSON object: {error}") from error


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[int] | None:
    """Return numbers that stand between commas."""
    try:
        return None if value is None else [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers such as 512,4096") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_BENCHMARK, _MEASURED = "benchmark-", "benchmark_"
recipes_argument = click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True, callback=_recipes)
_TERMS = (
    click.option("--windows", type=click.IntRange(1, 10000), help="Windows of 512 tokens, or items, of each domain."),
    click.option(
        "--domain", "domains", multiple=True, help="A text to judge by, such as prose, or a dataset; may be repeated."
    ),
    click.option("--task", "tasks", metavar="DATASET", multiple=True, help="A dataset to solve; may be repeated."),
    click.option("--task-items", type=click.IntRange(1, 10000), help="Items of each task to be put to the model."),
    click.option(
        "--gate",
        metavar="CONDITION",
        multiple=True,
        help="What the result must meet, such as 'perplexity_ratio <= 1.02' or 'code: agreement >= 0.95' or, with "
        "tasks, 'accuracy_drop <= 0.02'; may be repeated.",
    ),
    click.option(
        "--metadata", metavar="NAME=VALUE", multiple=True, callback=_pairs, help="A note on the job; may be repeated."
    ),
    click.option("--label", "labels", multiple=True, help="A tag to find the job by; may be repeated."),
    click.option("--priority", type=click.IntRange(-100, 100), help="Above 0 goes first within the team."),
    click.option("--max-runtime", "max_runtime_seconds", type=click.IntRange(1), help="Seconds the work may take."),
    click.option("--max-pending", "max_pending_seconds", type=click.IntRange(1), help="Seconds it may wait to begin."),
    click.option("--max-attempts", type=click.IntRange(1), help="How often a step that goes wrong is tried."),
    click.option("--wait-for-capacity", is_flag=True, help="Submit also what no worker could run, to wait for one."),
    click.option(
        f"--{_BENCHMARK}context",
        f"{_MEASURED}context_tokens",
        metavar="TOKENS,...",
        callback=_numbers,
        help="Measure the speed after prompts of these lengths. Any of these four has it measured.",
    ),
    click.option(
        f"--{_BENCHMARK}batch",
        f"{_MEASURED}batch_sizes",
        metavar="COUNT,...",
        callback=_numbers,
        help="With so many prompts at once.",
    ),
    click.option(
        f"--{_BENCHMARK}tokens",
        f"{_MEASURED}generated_tokens",
        type=click.IntRange(1),
        help="Tokens to generate after each prompt.",
    ),
    click.option(
        f"--{_BENCHMARK}repeats", f"{_MEASURED}repeats", type=click.IntRange(1), help="How often to measure each."
    ),
)
_A_FOLDER = click.option(
    "--publish-to", metavar="FOLDER", callback=_destination_url, help="A new folder for the result."
)
_FOR_A_SWEEP = (
    click.argument("recipes", metavar="[RECIPE...]", nargs=-1, callback=_recipes),
    click.option("--preset", type=click.Choice(PRESETS), help="A list of recipes by its name, in place of RECIPEs."),
    click.option(
        "--publish-to",
        metavar="FOLDER",
        callback=_destination_url,
        help="A folder for the results, each in a new one of its own.",
    ),
)


def asks_for_a_job(command: Command) -> Command:
    """Give a command the arguments and options that say what is wanted."""
    return _with(command, source_argument, recipes_argument, *_TERMS, _A_FOLDER)


def asks_for_a_sweep(command: Command) -> Command:
    """Likewise of a sweep, of which all jobs are asked for alike."""
    return _with(command, source_argument, *_FOR_A_SWEEP, *_TERMS)


def _with(command: Command, *parts: Callable[[Command], Command]) -> Command:
    for add in reversed(parts):
        command = add(command)
    return command


def given(options: Mapping[str, Any]) -> SubmitOptions:
    """Return the options that were said; the server has the defaults of the others."""
    said = {name: value for name, value in options.items() if value not in (None, (), {}) and value is not False}
    measured = {name.removeprefix(_MEASURED): said.pop(name) for name in [*said] if name.startswith(_MEASURED)}
    if measured:
        said["benchmark"] = measured
    return cast("SubmitOptions", said)
