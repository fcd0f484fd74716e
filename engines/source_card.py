"""What a source's own model card says of itself, of what a card of a result has to repeat.

A card is a README.md that begins with YAML: https://huggingface.co/docs/hub/model-cards. It comes from a stranger: only
known fields are taken, and of these only what looks as it must.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CARD_NAME = "README.md"
CARD_BYTES_MAX = 2**20
LICENSES_MAX = 8

_METADATA = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,95}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+()-]{0,95}")
_LINK = re.compile(r"(https?://[!-~]{1,2000}|[A-Za-z0-9][A-Za-z0-9._-]{0,95})")


@dataclass(frozen=True)
class SourceCard:
    """Fields of the metadata, by the Hub's names for them; None where the card has none.

    Attributes:
        licenses: identifiers of the Hub, such as ``apache-2.0``, or ``other``.
        license_name: what another licence is called.
        license_link: where its text is: a URL, or a file beside the card.
        pipeline_tag: what the model is for, such as ``text-generation``.
    """

    licenses: tuple[str, ...] = ()
    license_name: str | None = None
    license_link: str | None = None
    pipeline_tag: str | None = None


def read_card(folder: Path) -> SourceCard | None:
    """Return what the card of the model in ``folder`` says; nothing where there is no card, or it has no metadata.

    Returns:
        None where there is metadata that cannot be read.
    """
    try:
        with (folder / CARD_NAME).open("rb") as file:
            text = file.read(CARD_BYTES_MAX).decode("utf-8", "replace")
    except FileNotFoundError:
        return SourceCard()
    found = _METADATA.match(text)
    if found is None:
        return SourceCard()
    metadata = _load(found[1])
    if metadata is None:
        return None
    return SourceCard(
        licenses=_words(metadata.get("license")),
        license_name=_matching(_NAME, metadata.get("license_name")),
        license_link=_matching(_LINK, metadata.get("license_link")),
        pipeline_tag=_matching(_WORD, metadata.get("pipeline_tag")),
    )


def _load(text: str) -> Mapping[str, Any] | None:
    import yaml

    try:
        loaded = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return loaded if isinstance(loaded, dict) else None


def _words(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    return tuple(word for one in listed[:LICENSES_MAX] if (word := _matching(_WORD, one)) is not None)


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None
