"""`inspect`: a look at a model before anything is asked for."""

import click

from fewbits_client.cli.command import source_argument, talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.wording import NOTHING, one_line, size
from fewbits_client.client import Client
from fewbits_client.objects import Model, RecipeFit


@click.command()
@source_argument
@talks_to_server
def inspect(client: Client, output: Output, source: str) -> Exit:
    """Show what the model in SOURCE is, and which recipes go with it.

    SOURCE is as for `fewbits submit`.  Only headers and small files are read; nothing is computed or kept.
    """
    model = client.inspect(source)
    if output.as_json:
        output.document(model)
        return Exit.OK
    for name, value in _facts(model).items():
        output.line(f"{name:<14} {one_line(value)}")
    output.line("")
    table(["recipe", "fits", "served by", "what to know"], [_row(fit) for fit in model["recipes"]])
    return Exit.OK


def _facts(model: Model) -> dict[str, str]:
    """Return what is said of the model, by name."""
    tokenizer, kind = model["tokenizer"], model["model_type"]
    special = ", ".join(f"{name.removesuffix('_token')} {text}" for name, text in tokenizer["special_tokens"].items())
    known = NOTHING if tokenizer["vocabulary_size"] is None else f"{tokenizer['vocabulary_size']:,} tokens"
    facts = {
        "source": model["source"],
        "architecture": f"{model['architecture']} ({kind})" if kind else model["architecture"],
        "parameters": f"{model['parameter_count']:,}",
        "size": f"{size(model['size_bytes'])}, {model['dtype']}",
        "layers": f"{model['layer_count']}, {model['hidden_size']:,} wide",
        "vocabulary": f"{model['vocabulary_size']:,}{', tied to the output head' if model['tied_embeddings'] else ''}",
        "context": NOTHING if model["context_length"] is None else f"{model['context_length']:,} tokens",
        "tokenizer": f"{tokenizer['kind'] or 'of an unknown kind'}, {known}{f'; {special}' if special else ''}",
        "chat template": "yes" if model["has_chat_template"] else "no",
        "licence": model["licence"] or NOTHING,
    }
    if model["experts"] is not None:
        each = model["experts_per_token"]
        facts["experts"] = f"{model['experts']} a layer{'' if each is None else f', {each} for each token'}"
    return facts


def _row(fit: RecipeFit) -> list[str]:
    told = [fit["error"]["message"]] if fit["error"] else fit["warnings"]
    return [fit["recipe"], "yes" if fit["fits"] else "no", ", ".join(fit["served_by"]) or NOTHING, " ".join(told)]
