"""What is taken of a source's own card, whatever a stranger has written there."""

from pathlib import Path

import pytest

from engines.source_card import SourceCard, read_card

MORE = "x" * 2000


def card(folder: Path, metadata: str) -> SourceCard | None:
    (folder / "README.md").write_bytes(metadata.encode())
    return read_card(folder)


def test_licence_and_task_are_taken(tmp_path: Path) -> None:
    lines = ["---", "license: other", "license_name: a b 1.0", "license_link: LICENSE", "pipeline_tag: text-generation"]
    assert card(tmp_path, "\r\n".join([*lines, "---", "# A"])) == SourceCard(
        ("other",), "a b 1.0", "LICENSE", "text-generation"
    )
    assert card(tmp_path, "\ufeff---\nlicense: [mit, cc-by-4.0]\n---\n") == SourceCard(("mit", "cc-by-4.0"))


def test_no_card_and_no_metadata_say_nothing(tmp_path: Path) -> None:
    assert read_card(tmp_path) == SourceCard()
    for text in ("", "# A model\n\n---\nlicense: mit\n---\n", "---\nlicense: mit\n"):
        assert card(tmp_path, text) == SourceCard()


@pytest.mark.parametrize(
    "metadata",
    ["license: [", "- a\n- b", "[" * 50_000, "a: 9999-99-99", "license: !!python/object/apply:os.getcwd []"],
    ids=["broken", "no mapping", "deep", "no date", "code"],
)
def test_what_cannot_be_read_is_told_apart(tmp_path: Path, metadata: str) -> None:
    assert card(tmp_path, f"---\n{metadata}\n---\n") is None


@pytest.mark.parametrize(
    "metadata",
    [
        'license: "mit\\n---\\n# x"',
        "license: {a: b}",
        f"license: {MORE}",
        'license_name: "a\\u202eb"',
        "license_link: javascript:alert(1)",
        "license_link: ../../etc/passwd",
        f"license_link: https://e.vil/{MORE}",
        'pipeline_tag: "<script>"',
        "pipeline_tag: true",
    ],
)
def test_what_is_not_as_it_must_be_is_left_out(tmp_path: Path, metadata: str) -> None:
    assert card(tmp_path, f"---\n{metadata}\n---\n") == SourceCard()
