"""`report`: what a job or a sweep came to, as one page to keep and to pass on."""

from pathlib import Path

import click

from fewbits_client.cli.command import checked_id, talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.output import Output
from fewbits_client.client import Client


@click.command()
@click.argument("object_id", metavar="JOB_OR_SWEEP", callback=checked_id)
@click.option("--to", "file", type=click.Path(dir_okay=False, path_type=Path), help="Default: ./ID-report.html")
@talks_to_server
def report(client: Client, output: Output, object_id: str, *, file: Path | None) -> Exit:
    """Save the report of a job or of a sweep: one HTML file that opens anywhere, with tables and pictures.

    A file that is there is replaced.  With --json what the report is made of is written on stdout, and no file unless
    one is named: of a job its fewbits.json, of a sweep what `fewbits sweep show` says.
    """
    if output.as_json:
        output.document(client.report_facts(object_id))
    if file is None and output.as_json:
        return Exit.OK
    saved = file or Path(f"{object_id}-report.html")
    saved.write_text(client.report(object_id), encoding="utf-8")
    output.line(str(saved))
    return Exit.OK
