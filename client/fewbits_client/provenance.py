"""``fewbits.json`` of a downloaded result, as far as it is needed to ask for the same again.

The server has the schema of it, at ``/v1/schemas/fewbits.json``; here each field that is read is looked at by itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fewbits_client.errors import NotReproducible
from fewbits_client.objects import SubmitOptions

PROVENANCE_NAME = "fewbits.json"
SCHEMA_FAMILY = "urn:fewbits:provenance:"
SCHEMA = f"{SCHEMA_FAMILY}1"
ANY_KIND = ""
OWN_PREFIXES = ("dataset_", "text_")
BYTES_MAX = 256 * 2**20  # a loss for each module of the largest models is far less

T = TypeVar("T")


@dataclass(frozen=True)
class Provenance:
    """What a result was asked for with, and the digests that the same must have.

    Attributes:
        source: a URL, which need not mean the same to another server.
        recipe: the long form.
        options: on what it was judged, and what it had to meet.
        datasets: sha256 and kind of each dataset of the team's own that recipe or evaluation name, by its id.
        digests: sha256 of each file of the result, by name.
    """

    source: str
    recipe: Mapping[str, Any]
    options: SubmitOptions
    datasets: Mapping[str, tuple[str, str]]
    digests: Mapping[str, str]


def read_provenance(folder: Path) -> Provenance:
    """Return what the fewbits.json in a folder says.

    Raises:
        NotReproducible: there is none, it is damaged, or this version does not know its schema.
    """
    path = folder / PROVENANCE_NAME
    document = _load(path)
    schema = document.get("schema")
    if not isinstance(schema, str) or not schema.startswith(SCHEMA_FAMILY):
        raise NotReproducible(f"{path} does not describe a result of fewbits: its schema is {str(schema)[:80]!r}")
    if schema != SCHEMA:
        raise NotReproducible(f"{path} follows {schema[:80]}, and this version knows {SCHEMA}; use a newer fewbits")
    reader = _Reader(path, document)
    recipe = {**reader.find("recipe.parameters", dict), "method": reader.find("recipe.method", str)}
    options: SubmitOptions = {
        "domains": reader.find("evaluation.domains", list),
        "windows": reader.find("evaluation.windows", int),
    }
    if tasks := reader.tasks():
        options["tasks"] = tasks
        options["task_items"] = reader.find("evaluation.task_items", int)
    if gate := reader.gate():
        options["gate"] = gate
    return Provenance(
        source=reader.find("source.url", str),
        recipe=recipe,
        options=options,
        datasets=reader.datasets(recipe.get("calibration_text")),
        digests=reader.digests(),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > BYTES_MAX:
            raise NotReproducible(f"{path} is too large to be what fewbits writes")
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise NotReproducible(
            f"there is no {path}; give a folder that `fewbits download` has filled, or that a result was published to"
        ) from None
    except (ValueError, RecursionError) as error:
        raise NotReproducible(f"{path} is damaged: {error}; download it again") from None
    if not isinstance(document, dict):
        raise NotReproducible(f"{path} is damaged: it holds no JSON object; download it again")
    return document


@dataclass(frozen=True)
class _Reader:
    """Reads fields of a document that may be damaged anywhere."""

    path: Path
    document: Mapping[str, Any]

    def find(self, name: str, kind: type[T]) -> T:
        """Return the field of a dotted name, which must be of a kind."""
        value: Any = self.document
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise self.damage(name)
        return value

    def digests(self) -> dict[str, str]:
        """Return the sha256 of each file of the result, by name."""
        found = {}
        for file in self.find("result.files", list):
            if not isinstance(file, dict) or not all(isinstance(file.get(key), str) for key in ("name", "sha256")):
                raise self.damage("result.files")
            found[file["name"]] = file["sha256"]
        return found

    def datasets(self, calibration_text: Any) -> dict[str, tuple[str, str]]:
        """Return sha256 and kind of each dataset of the team's own, by its id; no kind of what it was calibrated on."""
        judged = self.document["evaluation"].get("datasets", {})  # which an earlier version has not written
        if not isinstance(judged, dict) or not all(isinstance(one, dict) for one in judged.values()):
            raise self.damage("evaluation.datasets")
        found = {name: (str(one.get("sha256")), str(one.get("kind"))) for name, one in judged.items()}
        is_own = isinstance(calibration_text, str) and calibration_text.startswith(OWN_PREFIXES)
        if is_own and self.document.get("calibration") is not None:
            return {**found, calibration_text: (self.find("calibration.text_sha256", str), ANY_KIND)}
        return found

    def tasks(self) -> list[str]:
        """Return the datasets that the result had to solve; none where an earlier version wrote the document."""
        tasks = self.document["evaluation"].get("tasks", [])
        if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
            raise self.damage("evaluation.tasks")
        return tasks

    def gate(self) -> list[dict[str, Any]]:
        """Return the conditions that the result had to meet; none where an earlier version wrote the document."""
        conditions = self.document["evaluation"].get("gate", [])
        if not isinstance(conditions, list) or not all(isinstance(condition, dict) for condition in conditions):
            raise self.damage("evaluation.gate")
        return [{name: value for name, value in one.items() if value is not None} for one in conditions]

    def damage(self, name: str) -> NotReproducible:
        return NotReproducible(
            f"{self.path} is damaged: {name} is missing or is not what it must be; download it again"
        )
