"""What fits where: memory of the host and of the GPU, and the device that is kept for what is too large for long."""

import itertools
from dataclasses import replace

import pytest

from db import expiry, workers
from db.claim import PASSED_OVER_SECONDS, claim
from db.jobs import PlannedStep
from db.room import Need, Room
from db.session import Interleaved
from tests.db.conftest import LEASE_SECONDS, Bench

FETCH = (PlannedStep("fetch", "cpu", (), {}),)
REFERENCE = (PlannedStep("reference", "gpu", (), {}),)
ALL = Room(memory_bytes=100, vram_bytes=None, scratch_bytes=100)
BUSY = replace(ALL, memory_bytes=40)
LARGE = Need(memory_bytes=80, vram_bytes=0, scratch_bytes=1)
SMALL = Need(memory_bytes=10, vram_bytes=0, scratch_bytes=1)


class Queue:
    """One worker that is partly busy, work that is too large for what is free there, and smaller work behind it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.large = self.put(LARGE)
        self.small = [self.put(SMALL) for _ in range(3)]

    def put(self, need: Need) -> str:
        known = {row.id for row in self.bench.rows("SELECT id FROM executions")}
        self.bench.submit(steps=FETCH, source=f"file:///{len(known)}")
        self.bench.bind_all(need=need)
        (execution_id,) = {row.id for row in self.bench.rows("SELECT id FROM executions")} - known
        return str(execution_id)

    def claim(self, room: Room = BUSY, device: str = "cpu") -> str | None:
        claimed = self.bench.claim(room=room, capacity=ALL, device=device)
        return None if claimed is None else str(claimed.lease.execution_id)

    def wait(self) -> None:
        """Let the large work have been passed over for long."""
        since = f"clock_timestamp() - make_interval(secs => {PASSED_OVER_SECONDS + 1})"
        statement = f"UPDATE executions SET passed_over_at = {since} WHERE passed_over_at IS NOT NULL"  # noqa: S608
        self.bench.execute(statement)

    def reserve(self) -> None:
        """Let the device be kept for the large work."""
        assert self.claim() == self.small[0]
        self.wait()
        assert self.claim() is None

    def reserved_by(self) -> str | None:
        value: str | None = self.bench.value("SELECT reserved_by FROM executions WHERE id = :id", id=self.large)
        return value


@pytest.fixture
def queue(bench: Bench) -> Queue:
    return Queue(bench)


def test_smaller_work_overtakes_what_does_not_fit_for_a_while(queue: Queue) -> None:
    assert [queue.claim() for _ in range(4)] == [*queue.small, None]
    assert queue.reserved_by() is None
    assert queue.claim(ALL) == queue.large


def test_work_that_was_passed_over_for_long_gets_the_device(queue: Queue) -> None:
    queue.reserve()
    assert queue.reserved_by() == queue.bench.worker
    assert queue.claim() is None
    assert queue.claim(ALL) == queue.large
    assert queue.reserved_by() is None
    assert queue.claim() == queue.small[1]


def test_a_reservation_keeps_one_device_and_no_other(queue: Queue) -> None:
    queue.reserve()
    assert queue.claim(device="other") == queue.small[1]
    assert queue.claim() is None


def test_a_reservation_keeps_the_device_from_other_teams_too(queue: Queue) -> None:
    other = queue.bench.new_team("two")
    queue.bench.submit(other, steps=FETCH)
    queue.bench.bind_all()
    assert queue.claim() is not None
    queue.wait()
    while queue.claim() is not None:
        pass
    assert queue.reserved_by() == queue.bench.worker
    queue.bench.submit(other, steps=FETCH, source="file:///new", priority=100)
    queue.bench.bind_all()
    assert queue.claim() is None


def test_another_device_may_take_what_is_reserved(queue: Queue) -> None:
    queue.reserve()
    assert queue.claim(ALL, device="other") == queue.large
    assert queue.claim() == queue.small[1]


def test_work_that_is_too_large_for_the_device_is_not_passed_over_there(queue: Queue) -> None:
    queue.bench.execute("UPDATE executions SET memory_bytes = 101 WHERE id = :id", id=queue.large)
    assert queue.claim() == queue.small[0]
    assert queue.bench.value("SELECT count(*) FROM executions WHERE passed_over_at IS NOT NULL") == 0


def test_the_reservation_of_a_worker_that_died_is_dropped(queue: Queue) -> None:
    queue.reserve()
    assert queue.bench.database.run(expiry.drop_reservations) == 0
    queue.bench.execute("UPDATE workers SET seen_at = now() - interval '1 hour' WHERE id = :id", id=queue.bench.worker)
    assert queue.bench.database.run(expiry.drop_reservations) == 1
    assert queue.reserved_by() is None


def test_what_a_dead_worker_had_reserved_need_not_wait_again(queue: Queue) -> None:
    queue.reserve()
    other = queue.bench.new_worker("cpu")
    queue.bench.execute("UPDATE workers SET stopped_at = now() WHERE id = :id", id=queue.bench.worker)
    queue.bench.database.run(expiry.drop_reservations)
    assert queue.bench.claim(worker_id=other, room=BUSY, capacity=ALL) is None
    assert queue.reserved_by() == other


def test_a_cancelled_reservation_keeps_nothing(queue: Queue) -> None:
    queue.reserve()
    job = queue.bench.value("SELECT job_id FROM steps WHERE execution_id = :id", id=queue.large)
    queue.bench.cancel(job)
    assert queue.claim() == queue.small[1]


def test_a_drained_worker_keeps_no_reservation(queue: Queue) -> None:
    queue.reserve()
    queue.bench.database.run(lambda s: workers.drain(s, queue.bench.worker))
    queue.bench.database.run(expiry.drop_reservations)
    assert queue.reserved_by() is None


def test_a_device_that_has_become_too_small_for_what_it_is_kept_for_goes_on(queue: Queue) -> None:
    """As when something else has filled the scratch disk."""
    queue.reserve()
    small = replace(ALL, memory_bytes=70)
    assert queue.bench.claim(room=small, capacity=small) is not None


def test_memory_of_the_host_and_of_a_gpu_count_apart(bench: Bench) -> None:
    gpu = Room(memory_bytes=50, vram_bytes=80, scratch_bytes=10)
    bench.submit(steps=REFERENCE)
    bench.bind_all(need=Need(memory_bytes=50, vram_bytes=80, scratch_bytes=10))
    for room in (replace(gpu, memory_bytes=49), replace(gpu, vram_bytes=79), replace(gpu, scratch_bytes=9)):
        assert bench.claim("gpu", room=room, capacity=room) is None
    assert bench.claim("gpu", room=gpu, capacity=gpu) is not None


def test_without_a_gpu_all_memory_is_taken_from_the_host(bench: Bench) -> None:
    bench.submit(steps=REFERENCE)
    bench.bind_all(need=Need(memory_bytes=50, vram_bytes=80, scratch_bytes=10))
    for memory_bytes, takes in ((129, False), (130, True)):
        room = Room(memory_bytes, None, 10)
        assert (bench.claim("gpu", room=room, capacity=room) is not None) == takes


def test_what_needs_a_gpu_is_not_claimed_without_one_however_much_memory_there_is(bench: Bench) -> None:
    host = Room(10**12, None, 10**12)
    bench.submit(steps=REFERENCE)
    bench.bind_all(need=Need(1, 0, 1, needs_gpu=True))
    assert bench.claim("gpu", room=host, capacity=host) is None
    gpu = replace(host, vram_bytes=0)
    claimed = bench.must_claim("gpu", room=gpu, capacity=gpu)
    assert claimed.need.needs_gpu


@pytest.mark.parametrize("needs_gpu", [False, True])
def test_the_two_ways_to_ask_whether_work_fits_agree(bench: Bench, needs_gpu: bool) -> None:
    """In SQL, for a claim; in Python, for the answer to a request."""
    need = Need(memory_bytes=50, vram_bytes=80, scratch_bytes=10, needs_gpu=needs_gpu)
    bench.submit(steps=REFERENCE)
    bench.bind_all(need=need)
    for memory_bytes, vram_bytes in itertools.product((49, 50, 129, 130), (None, 0, 79, 80)):
        room = Room(memory_bytes, vram_bytes, 10)
        claimed = bench.claim("gpu", room=room, capacity=room)
        assert (claimed is not None) == room.fits(need), room
        if claimed is not None:
            bench.release(claimed)


def test_a_device_is_kept_while_another_claims_for_the_team(queue: Queue) -> None:
    other = queue.bench.new_team("two")
    queue.reserve()
    queue.bench.submit(other, steps=FETCH)
    queue.bench.bind_all()
    queue.bench.execute("INSERT INTO team_usage VALUES (:team, 'cpu', 1000, now())", team=other)  # served last
    with queue.bench.database.transaction() as session:
        elsewhere = queue.bench.claimer(room=BUSY, capacity=ALL, device="other", running_max=5)
        assert claim(session, elsewhere, LEASE_SECONDS) is not None
        with pytest.raises(Interleaved):
            queue.bench.claim(room=BUSY, capacity=ALL, running_max=5)
