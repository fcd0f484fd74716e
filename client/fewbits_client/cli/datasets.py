"""`datasets`: what a team has brought, for calibration and to judge models on."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

import click

from fewbits_client.cli.command import checked_id, talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.wording import NOTHING, size
from fewbits_client.client import Client
from fewbits_client.objects import DatasetKind, TextFormat

ITEMS: Mapping[DatasetKind, str] = {
    "text": "plain text",
    "documents": "documents",
    "chat": "conversations",
    "completion": "completions",
    "multiple_choice": "questions",
    "reference": "prompts with references",
    "code": "programs with tests",
}
LINES = """\b
Kinds of lines:
  documents        {"text": "…"}
  chat             {"messages": [{"role": "user", "content": "…"}]}
  completion       {"prompt": "…", "completion": "…"}
  multiple_choice  {"question": "…", "choices": ["…", "…"], "answer": 0}
  reference        {"prompt": "…", "reference": "…"}
  code             {"prompt": "…", "tests": "…"}
"""


class _Listing(click.Group):
    """A group that lists where no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the command in front that is meant."""
        if "--help" not in args and (not args or args[0] not in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Listing)
def datasets() -> None:
    """List, upload and delete your team's datasets.

    Without a command they are listed. A recipe names a text for calibration by its id:

    fewbits submit MODEL '{"method": "gptq", "calibration_text": "dataset_…"}'
    """


@datasets.command("list")
@click.option("--kind", type=click.Choice(get_args(DatasetKind)), help="Only those of one kind.")
@talks_to_server
def list_datasets(client: Client, output: Output, *, kind: str | None) -> Exit:
    """List your team's datasets, newest first."""
    found = list(client.datasets(kind=cast("DatasetKind | None", kind)))
    if output.as_json:
        output.page(found)
    elif found:
        columns = ["dataset", "name", "kind", "documents", "size", "sha256"]
        rows = [
            [
                dataset["id"],
                dataset["name"] or NOTHING,
                dataset["kind"],
                str(dataset["documents"]),
                size(dataset["size_bytes"]),
            ]
            for dataset in found
        ]
        table(columns, [[*row, dataset["sha256"][:12]] for row, dataset in zip(rows, found, strict=True)])
    else:
        of_kind = f" of kind {kind}" if kind else ""
        output.complain(f"your team has no datasets{of_kind}: `fewbits datasets upload FILE` brings one")
    return Exit.OK


@datasets.command(epilog=LINES)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="What to call it, instead of the file's name.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "jsonl"]),
    help="How to read it; by default jsonl for a file called .jsonl or .ndjson, else text.",
)
@talks_to_server
def upload(client: Client, output: Output, *, file: Path, name: str | None, form: str | None) -> Exit:
    """Upload a dataset, in UTF-8.

    It is plain text, or JSONL, of which each line is an object, all of the same kind.
    `fewbits quotas` shows how many datasets your team may keep.
    """
    dataset = client.upload_dataset(file, name=name, format=cast("TextFormat | None", form))
    if output.as_json:
        output.document(dataset)
    else:
        items = f"{dataset['documents']} {ITEMS[dataset['kind']]}"
        output.line(f"{dataset['id']}  {items}, {size(dataset['size_bytes'])}, sha256 {dataset['sha256']}")
    return Exit.OK


@datasets.command()
@click.argument("dataset_id", metavar="DATASET", callback=checked_id)
@talks_to_server
def delete(client: Client, output: Output, *, dataset_id: str) -> Exit:
    """Delete a dataset that no job needs any more."""
    client.delete_dataset(dataset_id)
    if output.as_json:
        output.document({"id": dataset_id, "object": "dataset", "deleted": True})
    else:
        output.line(f"{dataset_id} is deleted")
    return Exit.OK
