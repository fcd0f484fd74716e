"""What a real child leaves for the documents of its result, and the names that it may not take."""

from tests.workers.conftest import Service


def test_the_facts_say_where_a_result_was_made_and_what_each_module_lost(service: Service) -> None:
    service.start("worker", "--pool", "cpu")
    job = service.wait(service.submit(act="measure"))
    assert job.status == "succeeded", job.error
    fetched, facts = (step.execution.facts if step.execution else None for step in job.steps)
    assert facts is not None
    assert facts["losses"] == [{"layer": 3, "module": "mlp.up_proj", "loss": 0.5}]
    assert facts["engine"] == "synthetic 1"
    assert facts["hardware"]["device"] == "cpu"
    assert facts["hardware"]["cpu"]
    assert facts["libraries"]["transformers"]
    assert fetched is not None
    assert fetched["card"]["licenses"] == []


def test_a_method_may_not_write_what_describes_the_result(service: Service) -> None:
    service.start("worker", "--pool", "cpu")
    job = service.wait(service.submit(act="card"))
    assert job.error is not None
    assert job.error["code"] == "tool_failed"
    assert "README.md" in job.error["message"]
