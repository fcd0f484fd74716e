"""Which sources a team may name."""

from pathlib import Path

import pytest

from core.errors import FewbitsError, InvalidRequest, SourceRefused
from pipeline.sources import check_source, local_folder

ROOTS = (Path("/models"), Path("/mnt/more"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("file:///models/llama", "file:///models/llama"),
        ("file://localhost/models/llama", "file:///models/llama"),
        ("file:///models//llama/", "file:///models/llama"),
        ("file:///mnt/more/with%20space", "file:///mnt/more/with%20space"),
        ("file:///models", "file:///models"),
    ],
)
def test_a_folder_under_a_root_is_accepted_in_one_spelling(given: str, kept: str) -> None:
    assert check_source(given, ROOTS) == kept


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("/models/llama", InvalidRequest),
        ("hf://org/name", InvalidRequest),
        ("", InvalidRequest),
        ("file://host/models/llama", InvalidRequest),
        ("file:models", InvalidRequest),
        ("file:///models/../etc", InvalidRequest),
        ("file:///models/%2e%2e/etc", InvalidRequest),
        ("file:///models/a%00b", InvalidRequest),
        ("file:///models/llama?x", InvalidRequest),
        ("file://[/models", InvalidRequest),
        ("file:///etc", SourceRefused),
        ("file:///modelsandmore", SourceRefused),
    ],
)
def test_anything_else_is_refused_and_names_the_field(source: str, error: type[FewbitsError]) -> None:
    with pytest.raises(error) as refusal:
        check_source(source, ROOTS)
    assert refusal.value.param == "source"


def test_without_roots_no_folder_is_read() -> None:
    with pytest.raises(SourceRefused, match="FEWBITS_SOURCE_ROOTS"):
        check_source("file:///models/llama", ())


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(SourceRefused, match="leads to"):
        local_folder((tmp_path / "root" / "link").as_uri(), (tmp_path / "root",))
