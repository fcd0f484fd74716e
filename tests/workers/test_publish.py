"""A result is published by a real worker, as the store has it, and never over what is there."""

from pathlib import Path

from core.ids import JobId
from db.jobs import PlannedStep
from pipeline.publish import MARKER
from tests.workers.conftest import Service


def submit(service: Service, to: Path) -> JobId:
    steps = (
        PlannedStep("fetch", "cpu", (), {}),
        PlannedStep("quantize", "cpu", ("fetch",), {"recipe": {"method": "synthetic"}}),
        PlannedStep("publish", "cpu", ("quantize",), {"to": to.as_uri()}),
    )
    return service.submit(steps=steps)


def test_a_result_is_published_as_the_store_has_it_and_never_over_what_is_there(service: Service) -> None:
    folder = service.folder / "published" / "team" / "model"
    service.start("worker", "--pool", "cpu")
    first = service.wait(submit(service, folder))
    assert first.status == "succeeded", first.error
    assert {path.name for path in folder.iterdir()} == {MARKER, "seen.json"}
    artifact = first.steps[1].execution and first.steps[1].execution.artifact
    assert artifact
    digest = artifact.files[0].sha256
    assert (folder / "seen.json").read_bytes() == (service.store / "blobs" / digest[:2] / digest).read_bytes()
    assert not (folder / "seen.json").is_symlink()
    before = (folder / "seen.json").stat()

    second = service.wait(submit(service, folder))
    assert second.status == "failed"
    assert second.error is not None
    assert second.error["code"] == "destination_refused"
    assert "Choose another folder" in second.error["message"]
    assert (folder / "seen.json").stat() == before
    assert second.steps[2].execution is not None
    assert second.steps[2].execution.attempt == 1
