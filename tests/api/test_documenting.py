"""From the rows of a job's steps to the work that documents its result."""

from typing import Any

from core.manifest import StoredFile
from db import jobs, keys
from db.session import Database
from pipeline.binding import bind_ready_steps
from pipeline.provenance import Provenance, json_schema
from tests.api.conftest import Caller
from tests.api.work import CHECKS, Workers
from tests.pipeline.record import CARD, LOSSES, MADE_WITH, MODEL, WRITTEN

SNAPSHOT = (StoredFile("model.safetensors", "b" * 64, 9), StoredFile("config.json", "a" * 64, 8))
RESULT = (StoredFile("model-Q4_K_M.gguf", "c" * 64, 7),)


def bring_to_its_documents(caller: Caller, database: Database) -> tuple[str, Workers]:
    job_id: str = caller.submit("gguf:Q4_K_M", evaluation={"domains": ["prose"], "windows": 2})["id"]
    work = Workers(database)
    work.do("fetch", {"model": MODEL, "card": CARD}, files=SNAPSHOT)
    work.do("convert")
    work.do("quantize", {**WRITTEN, **MADE_WITH}, files=RESULT)
    work.do("reference", perplexity={"prose": 23.7})
    work.do("verify", {"checks": CHECKS})
    work.do("evaluate", perplexity={"prose": 24.4})
    return job_id, work


def test_what_is_on_record_becomes_the_work_and_no_files_are_read(caller: Caller, database: Database) -> None:
    job_id, work = bring_to_its_documents(caller, database)
    assert bind_ready_steps(database) == 1
    taken = work.claim("cpu")
    assert taken is not None
    assert (taken.kind, taken.inputs) == ("document", {})
    made = Provenance.model_validate(taken.params)
    assert [file.name for file in made.source.files] == ["config.json", "model.safetensors"]
    assert [file.sha256 for file in made.result.files] == ["c" * 64]
    assert made.losses is not None
    assert [loss.model_dump() for loss in made.losses] == LOSSES
    (prose,) = made.report
    assert prose.baseline is not None
    assert prose.result is not None
    assert (prose.baseline.perplexity, prose.result.perplexity, prose.result.tokens) == (23.7, 24.4, 510)
    costs = {cost.step: cost for cost in made.costs}
    assert costs.keys() == {"convert", "quantize", "reference", "verify", "evaluate"}
    assert costs["quantize"].forecast.model_dump() == {"memory_bytes": 1, "vram_bytes": 0, "scratch_bytes": 1}
    assert job_id not in str(taken.params)


def test_results_are_listed_before_what_describes_them(caller: Caller, database: Database) -> None:
    job_id, work = bring_to_its_documents(caller, database)
    work.do("document", files=[StoredFile("README.md", "d" * 64, 1), StoredFile("fewbits.json", "e" * 64, 1)])
    listed = caller.get(f"/v1/jobs/{job_id}/artifacts").get_json()["data"]
    names: list[list[Any]] = [[file["name"] for file in artifact["files"]] for artifact in listed]
    assert names == [["model-Q4_K_M.gguf"], ["README.md", "fewbits.json"]]


def test_a_list_of_jobs_is_read_without_the_loss_of_every_module(caller: Caller, database: Database) -> None:
    job_id, _ = bring_to_its_documents(caller, database)
    team = database.run(lambda session: keys.authenticate(session, caller.key))
    job = database.run(lambda session: jobs.get(session, team, job_id))
    facts = next(step.facts for step in job.steps if step.kind == "quantize")
    assert facts is not None
    assert facts["bits_per_weight"] == 5.04
    assert "losses" not in facts


def test_the_schema_is_served_as_it_is_published(caller: Caller) -> None:
    assert caller.get("/v1/schemas/fewbits.json").get_json() == json_schema()
