"""Publishing: where a result may go, and that it is there whole, once, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import DestinationRefused, FewbitsError, InvalidRequest
from engines.context import EngineContext, Progress
from pipeline.destinations import check_destination, destination_folder
from pipeline.publish import ARRIVING, MARKER, Publish
from pipeline.step_kind import StepContext

ROOTS = (Path("/published"), Path("/mnt/more"))
FILES = {"model.gguf": "a" * 1000, "parts/second.txt": "b"}


class Died(Exception):
    """Stands for the end of the child."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    return folder


@pytest.fixture
def result(tmp_path: Path) -> Path:
    folder = tmp_path / "result"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def publish(root: Path, result: Path, to: Path, job: str, report: Callable[[Progress], None] = lambda _: None) -> None:
    engine = engine_of(result, report)
    params = {"to": to.as_uri(), "job": job}
    Publish().run(StepContext(params, {"quantize": result}, source_roots=(), publish_roots=(root,), engine=engine))


def engine_of(result: Path, report: Callable[[Progress], None] = lambda _: None) -> EngineContext:
    return EngineContext(
        output=result / "unused",
        scratch=result / "unused",
        checkpoint=result / "unused",
        work="work",
        threads=1,
        device="cpu",
        report=report,
        measure=lambda _: None,
        recall=lambda _: None,
        save=lambda: None,
        must_leave=lambda: False,
    )


def test_what_describes_a_result_goes_with_it(root: Path, result: Path, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "README.md").write_text("a card")
    engine = engine_of(result)
    params = {"to": (root / "model").as_uri(), "job": "job_1"}
    inputs = {"document": documents, "fetch": tmp_path, "quantize": result}
    Publish().run(StepContext(params, inputs, source_roots=(), publish_roots=(root,), engine=engine))
    assert content(root / "model") == {**FILES, "README.md": "a card"}


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("file:///published/llama", "file:///published/llama"),
        ("file://localhost/published//llama/q4/", "file:///published/llama/q4"),
    ],
)
def test_a_folder_under_a_root_is_accepted_in_one_spelling(given: str, kept: str) -> None:
    assert check_destination(given, ROOTS) == kept


@pytest.mark.parametrize(
    ("destination", "error"),
    [
        ("/published/llama", InvalidRequest),
        ("s3://bucket/llama", InvalidRequest),
        ("file:///published/../etc", InvalidRequest),
        ("file:///published", DestinationRefused),
        ("file:///publishedandmore", DestinationRefused),
        ("file:///etc", DestinationRefused),
    ],
)
def test_anything_else_is_refused_and_names_the_field(destination: str, error: type[FewbitsError]) -> None:
    with pytest.raises(error) as refusal:
        check_destination(destination, ROOTS)
    assert refusal.value.param == "publish_to"


def test_without_roots_nothing_is_published() -> None:
    with pytest.raises(DestinationRefused, match="FEWBITS_PUBLISH_ROOTS"):
        check_destination("file:///published/llama", ())


def test_a_link_that_leads_out_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(DestinationRefused, match="leads to"):
        destination_folder((root / "link" / "model").as_uri(), (root,))


def test_a_result_arrives_whole_and_names_its_job(root: Path, result: Path) -> None:
    publish(root, result, root / "team" / "model", "job_1")
    assert content(root / "team" / "model") == FILES
    assert json.loads((root / "team" / "model" / MARKER).read_text()) == {"job": "job_1"}
    assert [path.name for path in (root / "team").iterdir()] == ["model"]


def test_an_attempt_that_is_broken_off_shows_nothing_and_the_next_one_clears_up(root: Path, result: Path) -> None:
    left = root / f".model.job_1.0{ARRIVING}"
    left.mkdir()  # of a child that was killed
    (left / "model.gguf").write_text("a part")

    def die(_: Progress) -> None:
        assert not (root / "model").exists()
        raise Died

    with pytest.raises(Died):
        publish(root, result, root / "model", "job_1", die)
    assert list(root.iterdir()) == []
    publish(root, result, root / "model", "job_1")
    assert [path.name for path in root.iterdir()] == ["model"]


def test_an_attempt_after_one_whose_commit_was_lost_has_nothing_left_to_do(root: Path, result: Path) -> None:
    publish(root, result, root / "model", "job_1")
    before = (root / "model" / "model.gguf").stat()
    publish(root, result, root / "model", "job_1", lambda _: pytest.fail("copied again"))
    assert (root / "model" / "model.gguf").stat() == before


def test_two_attempts_at_once_publish_once(root: Path, result: Path) -> None:
    has_overtaken = False

    def overtake(_: Progress) -> None:
        nonlocal has_overtaken
        if not has_overtaken:
            has_overtaken = True
            publish(root, result, root / "model", "job_1")

    with pytest.raises(FileNotFoundError):  # the later one takes the folder of the earlier one for a leftover
        publish(root, result, root / "model", "job_1", overtake)
    assert content(root / "model") == FILES
    assert [path.name for path in root.iterdir()] == ["model"]


@pytest.mark.parametrize("there", ["folder", "empty folder", "file", "another job's"])
def test_nothing_is_written_over(root: Path, result: Path, there: str) -> None:
    if there == "file":
        (root / "model").write_text("mine")
    elif there == "another job's":
        publish(root, result, root / "model", "job_2")
    else:
        (root / "model").mkdir()
        if there == "folder":
            (root / "model" / "notes").write_text("mine")
    before = sorted(root.rglob("*"))
    with pytest.raises(DestinationRefused, match="already"):
        publish(root, result, root / "model", "job_1")
    assert sorted(root.rglob("*")) == before


def test_what_comes_to_the_destination_meanwhile_is_not_written_over(root: Path, result: Path) -> None:
    def interfere(_: Progress) -> None:
        (root / "model").mkdir(exist_ok=True)
        (root / "model" / "notes").write_text("mine")

    with pytest.raises(DestinationRefused, match="already"):
        publish(root, result, root / "model", "job_1", interfere)
    assert content(root / "model") == {"notes": "mine"}
    assert [path.name for path in root.iterdir()] == ["model"]


def test_a_published_folder_takes_no_other_result_into_it(root: Path, result: Path) -> None:
    publish(root, result, root / "model", "job_2")
    with pytest.raises(DestinationRefused, match="another job"):
        publish(root, result, root / "model" / "more" / "inside", "job_1")
    assert content(root / "model") == FILES
