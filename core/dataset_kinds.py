"""The kinds of datasets that a team may bring; what a line of each is stands in ``engines/datasets.py``."""

import enum


class DatasetKind(enum.StrEnum):
    """What the items of a dataset are."""

    TEXT = "text"  # one plain text
    DOCUMENTS = "documents"  # texts, each apart
    CHAT = "chat"  # conversations
    COMPLETION = "completion"  # prompts, each with what should follow it
    MULTIPLE_CHOICE = "multiple_choice"  # questions, each with choices, of which one is right
    REFERENCE = "reference"  # prompts, each with an answer that a model's own is compared with
    CODE = "code"  # beginnings of Python programs, each with the tests that the finished one must pass


# What a method may look at, what perplexity can be measured on, and what can be a task.
FOR_CALIBRATION = (DatasetKind.TEXT, DatasetKind.DOCUMENTS, DatasetKind.CHAT)
FOR_PERPLEXITY = (*FOR_CALIBRATION, DatasetKind.COMPLETION)
FOR_TASKS = (DatasetKind.MULTIPLE_CHOICE, DatasetKind.REFERENCE, DatasetKind.CODE)


def listed(kinds: tuple[DatasetKind, ...]) -> str:
    """Return kinds as a sentence has them: ``text, documents or chat``."""
    *first, last = kinds
    return f"{', '.join(first)} or {last}" if first else last
