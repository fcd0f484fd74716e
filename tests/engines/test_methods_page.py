"""The page of the methods says what they say."""

from pathlib import Path

from engines.methods_page import page

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_as_the_methods_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"
