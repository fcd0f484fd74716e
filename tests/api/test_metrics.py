from db.metrics import NewMetric
from db.session import Database
from tests.api.conftest import Caller, pointers
from tests.api.work import MODEL_FACTS, Workers

FIELDS = ["id", "object", "step", "attempt", "layer", "module", "values", "created_at"]


def test_metrics_are_paged_by_id(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    work = Workers(database)
    work.do("fetch", MODEL_FACTS)
    work.do("convert")
    taken = work.start("quantize")
    work.measure(taken, NewMetric(0, "self_attn.q_proj", {"loss": 0.25, "seconds": 1}))
    work.measure(taken, NewMetric(1, "self_attn.q_proj", {"loss": 2.5}), NewMetric(1, "mlp.up_proj", {}))

    page = caller.get(f"/v1/jobs/{job_id}/metrics?limit=2").get_json()
    assert (page["object"], page["has_more"], len(page["data"])) == ("list", True, 2)
    first = page["data"][0]
    assert list(first) == FIELDS
    assert (first["object"], first["step"], first["attempt"], first["layer"]) == ("job.metric", "quantize", 1, 0)
    assert (first["module"], first["values"]) == ("self_attn.q_proj", {"loss": 0.25, "seconds": 1})

    rest = caller.get(f"/v1/jobs/{job_id}/metrics?after={page['data'][-1]['id']}").get_json()
    assert [(metric["layer"], metric["module"], metric["values"]) for metric in rest["data"]] == [
        (1, "mlp.up_proj", {})
    ]
    assert rest["has_more"] is False


def test_the_number_to_continue_after_stays_in_its_range(caller: Caller) -> None:
    job_id = caller.submit()["id"]
    for after in (str(2**63), "-1", "x"):
        assert pointers(caller.get(f"/v1/jobs/{job_id}/metrics?after={after}")) == ["/after"]
    assert caller.get(f"/v1/jobs/{job_id}/metrics?after={2**63 - 1}").get_json()["data"] == []
