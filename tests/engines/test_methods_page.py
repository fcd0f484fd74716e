"""The page of the methods says what they say."""

from pathlib import Path
from typing import get_args

from engines.methods_page import page
from engines.pretokenizer import PreTokenizer

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_as_the_methods_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_no_cell_is_longer_than_a_screen_and_nothing_is_left_out() -> None:
    text, names = page(), get_args(PreTokenizer)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert max(len(cell) for row in rows for cell in row.split("|")) < 400
    assert f"one of the {len(names)} names below" in text
    _, _, below = text.partition(f"The {len(names)} names for `pre_tokenizer`:")
    for name in names:
        assert f"`{name}`" in below
