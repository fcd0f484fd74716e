"""`texts`: a team's own texts for calibration."""

from pathlib import Path
from typing import cast

import click

from fewbits_client.cli.command import checked_id, talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.wording import NOTHING, size
from fewbits_client.client import Client
from fewbits_client.objects import TextFormat


class _Listing(click.Group):
    """A group that lists where no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the command in front that is meant."""
        if "--help" not in args and (not args or args[0] not in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Listing)
def texts() -> None:
    """List, upload and delete your team's texts for calibration.

    Without a command they are listed. A recipe names one by its id:

    fewbits submit MODEL '{"method": "gptq", "calibration_text": "text_…"}'
    """


@texts.command("list")
@talks_to_server
def list_texts(client: Client, output: Output) -> Exit:
    """List your team's texts, newest first."""
    found = list(client.texts())
    if output.as_json:
        output.page(found)
    elif found:
        columns = ["text", "name", "format", "documents", "size", "sha256"]
        rows = [
            [text["id"], text["name"] or NOTHING, text["format"], str(text["documents"]), size(text["size_bytes"])]
            for text in found
        ]
        table(columns, [[*row, text["sha256"][:12]] for row, text in zip(rows, found, strict=True)])
    else:
        output.complain("your team has no texts: `fewbits texts upload FILE` brings one")
    return Exit.OK


@texts.command()
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
    """Upload a text, in UTF-8.

    It is plain, or JSONL: each line an object with a text, or with messages that have a role and a content each.
    `fewbits quotas` shows how many texts your team may keep.
    """
    text = client.upload_text(file, name=name, format=cast("TextFormat | None", form))
    if output.as_json:
        output.document(text)
    else:
        output.line(f"{text['id']}  {text['documents']} documents, {size(text['size_bytes'])}, sha256 {text['sha256']}")
    return Exit.OK


@texts.command()
@click.argument("text_id", metavar="TEXT", callback=checked_id)
@talks_to_server
def delete(client: Client, output: Output, *, text_id: str) -> Exit:
    """Delete a text that no job needs any more."""
    client.delete_text(text_id)
    if output.as_json:
        output.document({"id": text_id, "object": "text", "deleted": True})
    else:
        output.line(f"{text_id} is deleted")
    return Exit.OK
