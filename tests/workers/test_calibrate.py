"""A team's own text in a real child, from either store; and what comes of a text that is gone."""

import hashlib
from functools import partial
from pathlib import Path

from core.dataset_kinds import DatasetKind
from core.ids import DatasetId, JobId
from db import datasets
from db.datasets import NewDataset
from db.tables import Dataset, Execution, Job
from engines.recipe import parse_recipe
from pipeline.calibrate import TEXT
from pipeline.plan import plan
from store.directory import DirectoryStore
from tests.s3_server import S3Server
from tests.waiting import wait_until
from tests.workers.conftest import Service

CONTENT = b"".join(b'{"text": "Line %d of our own text is not the same as any other."}\n' % n for n in range(2000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def bring(service: Service) -> DatasetId:
    """Write the row of a dataset, as the API does."""
    new = NewDataset("own.jsonl", DatasetKind.DOCUMENTS, SHA256, len(CONTENT), 2000)
    dataset_id = service.database.run(partial(datasets.announce, team_id=service.team, new=new))
    service.database.run(partial(datasets.keep, dataset_id=dataset_id))
    return dataset_id


def calibrate(service: Service, dataset_id: str) -> JobId:
    """Submit the first two steps of a GPTQ job on the text."""
    recipe = parse_recipe({"method": "gptq", "calibration_text": dataset_id, "calibration_samples": 32})
    own = {"text_sha256": SHA256, "text_format": "jsonl", "text_bytes": len(CONTENT)}
    steps = plan(recipe, {"domains": ["prose"], "windows": 4}, None, own)
    return service.submit(steps=steps[:2])


def execution(job: Job) -> Execution:
    found = job.steps[1].execution
    assert found is not None
    return found


def store_of(service: Service, content: bytes, folder: Path) -> None:
    (folder / "arriving").write_bytes(content)
    DirectoryStore(service.store).put(folder / "arriving", hashlib.sha256(content).hexdigest())


def test_samples_are_drawn_from_the_text_once_for_the_same_bytes(service: Service, tmp_path: Path) -> None:
    store_of(service, CONTENT, tmp_path)
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    first_text = bring(service)
    first = service.wait(calibrate(service, first_text))
    assert first.status == "succeeded", first.error
    facts = execution(first).facts
    assert facts is not None
    assert (facts["text_sha256"], facts["samples"], facts["tokens"]) == (SHA256, 32, 512)
    assert execution(first).inputs[TEXT] == first_text
    again = service.wait(calibrate(service, first_text))
    # Each job fetches a local folder anew, but what it fetches is the same.
    assert execution(again).id == execution(first).id
    service.database.run(partial(datasets.remove, team_id=service.team, dataset_id=first_text))
    second_text = bring(service)
    assert second_text != first_text
    anew = service.wait(calibrate(service, second_text))
    assert execution(anew).id == execution(first).id


def test_a_dataset_comes_from_a_bucket_by_the_node_s_cache(
    service: Service, s3_server: S3Server, tmp_path: Path
) -> None:
    bucket = s3_server.bucket()
    known = s3_server.environment(bucket) | {"FEWBITS_CACHE_ROOT": str(tmp_path / "cache")}
    prefix = known["FEWBITS_STORE_URL"].removeprefix(f"s3://{bucket}").strip("/")
    key = "/".join(part for part in (prefix, "blobs", SHA256[:2], SHA256) if part)
    s3_server.client.put_object(Bucket=bucket, Key=key, Body=CONTENT)
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2", **known)
    job = service.wait(calibrate(service, bring(service)))
    assert job.status == "succeeded", job.error
    assert any(SHA256 in path.name for path in (tmp_path / "cache").rglob("*"))


def test_a_dataset_that_is_gone_ends_the_job_with_what_to_know(service: Service) -> None:
    """As when a job ends by its deadline, its dataset is deleted, and a worker had claimed the step just before."""
    dataset_id = bring(service)
    job_id = calibrate(service, dataset_id)
    with service.database.transaction() as session:
        session.delete(session.get(Dataset, dataset_id))
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job = service.wait(job_id)
    assert job.error is not None
    assert (job.error["code"], dataset_id in job.error["message"]) == ("not_found", True)
    wait_until(lambda: execution(service.job(job_id)).status == "failed")


def test_a_dataset_whose_bytes_are_lost_says_so(service: Service) -> None:
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job = service.wait(calibrate(service, bring(service)))
    assert job.error is not None
    assert job.error["code"] == "blob_lost"
