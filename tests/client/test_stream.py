import pytest

from fewbits_client import Client, Done, Happened, InvalidArgument, Problem, Unreachable, Updated
from tests.client.fake_api import KEY, Exchange, FakeApi, a_job, done_frame, event_frame, progress_frame

EVENTS = "/v1/jobs/job_1/events"


def test_a_dropped_stream_is_resumed_without_missing_or_doubling_an_event(api: FakeApi, client: Client) -> None:
    def dropped(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.piece(event_frame(1) + progress_frame() + event_frame(2) + event_frame(3)[:30])
        exchange.drop()

    def ended_early(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.piece(event_frame(2) + event_frame(3))
        exchange.end_stream()

    def not_ready(exchange: Exchange) -> None:
        exchange.send(503, b"starting", "text/plain")

    api.on("GET", EVENTS, dropped, not_ready, ended_early)
    api.streams("job_1", event_frame(4), b"event: new-kind\ndata: {}\n\n", done_frame(a_job()))

    updates = list(client.stream("job_1"))

    assert [update.event["id"] for update in updates if isinstance(update, Happened)] == [1, 2, 3, 4]
    assert sum(isinstance(update, Updated) for update in updates) == 1
    assert isinstance(updates[-1], Done)
    assert [seen.headers["last-event-id"] for seen in api.requests(EVENTS)] == [None, "2", "2", "3"]


def test_a_stream_that_never_reaches_the_end_is_given_up(api: FakeApi) -> None:
    api.streams("job_1")
    with (
        Client(api.url, KEY, retry_seconds=0, patience_seconds=0) as impatient,
        pytest.raises(Unreachable, match="keeps ending"),
    ):
        list(impatient.stream("job_1"))


def test_a_refused_stream_is_not_tried_again(api: FakeApi, client: Client) -> None:
    with pytest.raises(Problem) as refused:
        list(client.stream("job_1"))
    assert refused.value.status == 404
    assert len(api.seen) == 1


def test_several_jobs_are_followed_at_once(api: FakeApi, client: Client) -> None:
    for job_id in ("job_1", "job_2"):
        api.streams(job_id, event_frame(1), done_frame(a_job(job_id)))
    updates = list(client.stream_all(["job_1", "job_2"]))
    assert {job_id for job_id, update in updates if isinstance(update, Done)} == {"job_1", "job_2"}
    assert len(updates) == 4


def test_wait_returns_the_job_as_it_ended(api: FakeApi, client: Client) -> None:
    api.streams("job_1", done_frame(a_job(status="failed")))
    assert client.wait("job_1")["status"] == "failed"


def test_followed_logs_end_with_the_job_and_lose_nothing(api: FakeApi, client: Client) -> None:
    def chunk(number: int) -> dict[str, object]:
        return {"id": number, "object": "job.log", "step": "quantize", "attempt": 1, "created_at": "", "text": "x"}

    api.answers("GET", "/v1/jobs/job_1", a_job(status="running"))
    api.answers("GET", "/v1/jobs/job_1", a_job())
    api.answers("GET", "/v1/jobs/job_1/logs", {"object": "list", "data": [chunk(1)], "has_more": True})
    api.answers("GET", "/v1/jobs/job_1/logs", {"object": "list", "data": [chunk(2)], "has_more": False})
    api.answers("GET", "/v1/jobs/job_1/logs", {"object": "list", "data": [chunk(3)], "has_more": False})
    assert [piece["id"] for piece in client.logs("job_1", follow=True)] == [1, 2, 3]
    assert [seen.path.partition("after=")[2][:1] for seen in api.requests("/v1/jobs/job_1/logs")] == [
        "",
        "1",
        "2",
    ]


@pytest.mark.parametrize(
    ("url", "key"), [("ftp://x", "k"), ("127.0.0.1:80", "k"), ("http://x", "a b"), ("http://x", "")]
)
def test_a_url_or_a_key_that_cannot_be_used_is_said_at_once(url: str, key: str) -> None:
    with pytest.raises(InvalidArgument):
        Client(url, key)


def test_an_id_cannot_lead_to_another_path(client: Client) -> None:
    with pytest.raises(InvalidArgument):
        client.job("../methods")
