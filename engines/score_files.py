"""Scores as files: what full precision says of each item, and the scores of work that is half done.

A folder holds ``scores.safetensors`` (for each domain the numbers of all its tokens, item after item) and, where they
are kept, the log-probabilities of whole vocabularies in parts of some items each; that of a reference holds
``items.safetensors``, too: what was scored. Scores and parts are put in place whole, so that a link to an older one
keeps what it had.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines.domains import Item
from engines.scoring import ItemScore, log_probabilities
from engines.tasks import TaskScores, read_task_scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCORES_NAME = "scores.safetensors"
ITEMS_NAME = "items.safetensors"
PART_BYTES = 64 * 2**20  # about; held in memory while it is written or read
BYTES_EACH = 2  # of a log-probability, in float16


def write_items(folder: Path, items: Mapping[str, Sequence[Item]]) -> None:
    """Write the items of each domain: whoever scores the same need not have the text, nor the tokenizer."""
    import numpy as np
    from safetensors.numpy import save_file

    arrays: dict[str, NDArray[np.generic]] = {}
    for domain, of_domain in items.items():
        arrays[f"{domain}/ids"] = np.concatenate([np.array(item.ids, dtype=np.int64) for item in of_domain])
        arrays[f"{domain}/lengths"] = np.array([len(item.ids) for item in of_domain], dtype=np.int64)
        arrays[f"{domain}/first"] = np.array([item.first for item in of_domain], dtype=np.int64)
        arrays[f"{domain}/follows"] = np.array([item.follows for item in of_domain])
    save_file(arrays, folder / ITEMS_NAME)


def read_items(folder: Path) -> dict[str, list[Item]]:
    """Return the items in a folder by domain; none where there is no such file."""
    from safetensors.numpy import load_file

    path = folder / ITEMS_NAME
    arrays = load_file(path) if path.exists() else {}
    domains = [name.rpartition("/")[0] for name in arrays if name.endswith("/ids")]
    return {domain: list(_written_items(arrays, domain)) for domain in domains}


def _written_items(arrays: "Mapping[str, NDArray[np.generic]]", domain: str) -> Iterator[Item]:
    import numpy as np

    ids, lengths, first, follows = (arrays[f"{domain}/{name}"] for name in ("ids", "lengths", "first", "follows"))
    pieces = np.split(ids, np.cumsum(lengths)[:-1])
    for piece, begin, is_beside in zip(pieces, first.tolist(), follows.tolist(), strict=True):
        yield Item(piece.tolist(), begin, is_beside)


def write_scores(folder: Path, scores: Mapping[str, Sequence[ItemScore]]) -> None:
    """Write the scores of each domain that has any, in place of those that are there."""
    import numpy as np
    from safetensors.numpy import save_file

    arrays: dict[str, NDArray[np.generic]] = {}
    for domain, items in scores.items():
        if not items:
            continue
        arrays[f"{domain}/lengths"] = np.array([len(item.nll) for item in items], dtype=np.int32)
        arrays[f"{domain}/nll"] = np.concatenate([item.nll for item in items])
        arrays[f"{domain}/likeliest"] = np.concatenate([item.likeliest for item in items])
        divergences = [item.kl for item in items if item.kl is not None]
        if divergences:
            arrays[f"{domain}/kl"] = np.concatenate(divergences)
    hidden = folder / f".{SCORES_NAME}"
    save_file(arrays, hidden)
    hidden.replace(folder / SCORES_NAME)


def read_scores(folder: Path) -> dict[str, list[ItemScore]]:
    """Return the scores in a folder by domain; none where there is no such file."""
    from safetensors.numpy import load_file

    path = folder / SCORES_NAME
    arrays = load_file(path) if path.exists() else {}
    domains = [name.rpartition("/")[0] for name in arrays if name.endswith("/lengths")]
    return {domain: list(_items(arrays, domain)) for domain in domains}


def _items(arrays: "Mapping[str, NDArray[np.generic]]", domain: str) -> "list[ItemScore]":
    """Return a domain's items; those with a divergence come first."""
    import numpy as np

    ends = np.cumsum(arrays[f"{domain}/lengths"])[:-1]
    nll, likeliest = (np.split(arrays[f"{domain}/{name}"], ends) for name in ("nll", "likeliest"))
    kl: list[NDArray[np.generic] | None] = [None] * len(nll)
    if (known := arrays.get(f"{domain}/kl")) is not None:
        pieces = np.split(known, ends[ends < len(known)])
        kl[: len(pieces)] = pieces
    return [ItemScore(*item) for item in zip(nll, likeliest, kl, strict=True)]  # type: ignore[arg-type]


class LogProbabilityWriter:
    """Keeps the log-probabilities of a domain's items, in their order, as long as they are no more than some bytes.

    Args:
        folder: where the parts go; those of items that were added before are there.
        domain: whose they are.
        limit_bytes: how much is kept.
        done: lengths, in tokens, of the items that were added before.
    """

    def __init__(self, folder: Path, domain: str, limit_bytes: int, done: Sequence[int] = ()) -> None:
        self._folder = folder
        self.domain = domain
        self._limit_bytes = limit_bytes
        self._rows = sum(done)
        self._waiting: list[NDArray[np.float16]] = []
        self._has_new = False
        self._resumes = bool(done)
        if not done:  # what lies there is of an attempt that asked otherwise
            for stale in folder.glob(f"log-probabilities.{domain}.*.npy"):
                stale.unlink()

    def add(self, logits: "NDArray[np.float32]", threads: int = 1) -> None:
        """Keep those that the next item's logits stand for, of shape ``[tokens, vocabulary]``."""
        row_bytes = BYTES_EACH * logits.shape[1]
        if (self._rows + len(logits)) * row_bytes > self._limit_bytes:
            self._limit_bytes = 0  # what comes after would leave a gap
            return
        part = _part(self._rows, row_bytes)
        if self._resumes:
            self._waiting = [] if (begun := _load(self._folder, self.domain, part)) is None else [begun]
            self._resumes = False
        self._waiting.append(log_probabilities(logits, threads))
        self._has_new = True
        self._rows += len(logits)
        if _part(self._rows, row_bytes) > part:
            self._write(part)
            self._waiting = []

    def flush(self) -> None:
        """Write what has been added and fills no part."""
        if self._has_new:
            self._write(_part(self._rows, BYTES_EACH * self._waiting[0].shape[1]))

    def _write(self, part: int) -> None:
        import numpy as np

        path = _path(self._folder, self.domain, part)
        hidden = path.with_name(f".{path.name}")
        np.save(hidden, np.concatenate(self._waiting))
        hidden.replace(path)
        self._has_new = False


class Reference:
    """What full precision says, and of which items, as ``reference`` has left it in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.items: Mapping[str, Sequence[Item]] = read_items(folder)
        self.scores: Mapping[str, Sequence[ItemScore]] = read_scores(folder)
        self.tasks: Mapping[str, TaskScores] = read_task_scores(folder)
        self._places = {domain: self._places_of(domain) for domain in self.scores}
        self._loaded: tuple[str, int] | None = None
        self._rows: NDArray[np.float16] | None = None

    def log_probabilities(self, domain: str, index: int) -> "NDArray[np.float16] | None":
        """Return those of one item, of shape ``[tokens, vocabulary]``; None where they were not kept."""
        if index >= self.kept(domain):
            return None
        part, begin, end = self._places[domain][index]
        if self._rows is None or self._loaded != (domain, part):
            self._loaded, self._rows = (domain, part), _load(self._folder, domain, part)
        return None if self._rows is None else self._rows[begin:end]

    def kept(self, domain: str) -> int:
        """Return of how many items of a domain the log-probabilities were kept; they are the first."""
        return len(self._places.get(domain, ()))

    def _places_of(self, domain: str) -> list[tuple[int, int, int]]:
        """Return for each item that was kept its part, and between which rows of that it lies."""
        places: list[tuple[int, int, int]] = []
        rows, part, part_begin = 0, 0, 0
        part_rows, vocabulary = _shape(self._folder, domain, 0)
        for item in self.scores[domain]:
            if _part(rows, BYTES_EACH * vocabulary) > part:
                part, part_begin = _part(rows, BYTES_EACH * vocabulary), rows
                part_rows, _ = _shape(self._folder, domain, part)
            end = rows - part_begin + len(item.nll)
            if end > part_rows:
                break
            places.append((part, rows - part_begin, end))
            rows += len(item.nll)
        return places


def _part(rows_before: int, row_bytes: int) -> int:
    """Return the part in which an item lies."""
    return rows_before * row_bytes // PART_BYTES


def _path(folder: Path, domain: str, part: int) -> Path:
    return folder / f"log-probabilities.{domain}.{part:05}.npy"


def _load(folder: Path, domain: str, part: int) -> "NDArray[np.float16] | None":
    import numpy as np

    path = _path(folder, domain, part)
    return np.load(path, allow_pickle=False) if path.exists() else None


def _shape(folder: Path, domain: str, part: int) -> tuple[int, int]:
    """Return how many rows a part has, and of what vocabulary, by its header; none where there is no such part."""
    import numpy as np

    path = _path(folder, domain, part)
    if not path.exists():
        return 0, 0
    rows, vocabulary = np.load(path, mmap_mode="r", allow_pickle=False).shape
    return rows, vocabulary
