"""A node's cache: brought once, verified, pinned while in use, never above its limit."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import DoesNotFit, StoreFailed
from store import cache as cache_module
from store.cache import NodeCache
from store.port import Check, go_on
from tests.conftest import REPOSITORY
from tests.store.conftest import sha256
from tests.waiting import wait_until

SIZE = 1000
LIMIT = 3 * SIZE
CONTENTS = {sha256(content): content for content in (bytes([number]) * SIZE for number in range(8))}
NAMES = list(CONTENTS)


class Source:
    """Where blobs come from; notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.meanwhile: Callable[[], object] = go_on

    def bring(self, name: str, size_bytes: int, descriptor: int, check: Check) -> None:
        self.asked.append(name)
        self.meanwhile()
        os.pwrite(descriptor, CONTENTS[name], 0)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def use(root: Path, source: Source, *names: str, check: Check = go_on) -> None:
    with NodeCache(root, LIMIT).holding(dict.fromkeys(names, SIZE), source.bring, check) as paths:
        assert {name: path.read_bytes() for name, path in paths.items()} == {name: CONTENTS[name] for name in names}


def kept(root: Path) -> set[str]:
    assert list((root / "arriving").iterdir()) == []
    return {path.name for path in (root / "blobs").iterdir()}


def test_a_blob_is_brought_once(root: Path, source: Source) -> None:
    use(root, source, NAMES[0])
    use(root, source, NAMES[0], NAMES[1])
    assert source.asked == NAMES[:2]


def test_those_used_the_longest_ago_make_way(root: Path, source: Source) -> None:
    for name in (*NAMES[:3], NAMES[0], NAMES[3]):
        use(root, source, name)
    assert kept(root) == {NAMES[0], NAMES[2], NAMES[3]}


def test_what_is_in_use_does_not_make_way(root: Path, source: Source) -> None:
    with NodeCache(root, LIMIT).holding({NAMES[0]: SIZE}, source.bring, go_on) as paths:
        for name in NAMES[1:6]:
            use(root, source, name)
        assert paths[NAMES[0]].exists()
    assert len(kept(root)) == 3


def test_one_waits_until_others_make_room(root: Path, source: Source) -> None:
    waiting = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with NodeCache(root, LIMIT).holding(dict.fromkeys(NAMES[:2], SIZE), source.bring, go_on):
            waiter = pool.submit(use, root, source, *NAMES[2:4], check=waiting.set)
            assert waiting.wait(10)
            assert not waiter.done()
            assert kept(root) == set(NAMES[:2])
        waiter.result(10)


def test_one_that_waits_can_be_broken_off(root: Path, source: Source) -> None:
    def check() -> None:
        raise InterruptedError

    cache = NodeCache(root, LIMIT)
    with (
        cache.holding(dict.fromkeys(NAMES[:3], SIZE), source.bring, go_on),
        pytest.raises(InterruptedError),
        cache.holding({NAMES[3]: SIZE}, source.bring, check),
    ):
        pass


def test_more_than_the_limit_never_fits(root: Path, source: Source) -> None:
    with pytest.raises(DoesNotFit, match="FEWBITS_CACHE_BYTES_MAX"):
        use(root, source, *NAMES[:4])
    assert source.asked == []


def test_many_at_once_bring_each_blob_once(root: Path, source: Source) -> None:
    """Each needs two of three blobs, so that they meet in every order."""
    pairs = [(NAMES[number % 3], NAMES[(number + 1) % 3]) for number in range(12)]
    with ThreadPoolExecutor(len(pairs)) as pool:
        list(pool.map(lambda pair: use(root, source, *pair), pairs))
    assert sorted(source.asked) == sorted(NAMES[:3])


def test_a_second_one_waits_for_the_first_to_bring_it(root: Path, source: Source) -> None:
    waiting, go = threading.Event(), threading.Event()
    source.meanwhile = lambda: go.wait(10)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(use, root, source, NAMES[0])
        wait_until(lambda: source.asked == NAMES[:1])
        second = pool.submit(use, root, source, NAMES[0], check=waiting.set)
        assert waiting.wait(10)
        go.set()
        first.result(10)
        second.result(10)
    assert source.asked == NAMES[:1]


def test_where_the_first_fails_the_second_brings_it(root: Path, source: Source) -> None:
    waiting = threading.Event()

    def fail_once() -> None:
        source.meanwhile = go_on
        assert waiting.wait(10)
        raise StoreFailed("away")

    source.meanwhile = fail_once
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(use, root, source, NAMES[0])
        wait_until(lambda: source.asked == NAMES[:1])
        pool.submit(use, root, source, NAMES[0], check=waiting.set).result(20)
        with pytest.raises(StoreFailed, match="away"):
            first.result(10)
    assert kept(root) == {NAMES[0]}


def test_what_comes_spoilt_is_brought_again(root: Path, source: Source) -> None:
    spoil = iter([True, False, True, True])

    def bring(name: str, size_bytes: int, descriptor: int, check: Check) -> None:
        source.bring(name, size_bytes, descriptor, check)
        if next(spoil):
            os.pwrite(descriptor, b"?", 0)

    cache = NodeCache(root, LIMIT)
    with cache.holding({NAMES[0]: SIZE}, bring, go_on) as paths:
        assert paths[NAMES[0]].read_bytes() == CONTENTS[NAMES[0]]
    with pytest.raises(StoreFailed, match="another content"), cache.holding({NAMES[1]: SIZE}, bring, go_on):
        pass
    assert kept(root) == {NAMES[0]}


def test_a_copy_that_was_cut_is_brought_again(root: Path, source: Source) -> None:
    use(root, source, NAMES[0])
    os.truncate(root / "blobs" / NAMES[0], SIZE - 1)
    use(root, source, NAMES[0])
    assert source.asked == [NAMES[0]] * 2


def test_a_full_disk_is_said_and_leaves_nothing(root: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    use(root, source, NAMES[0])
    monkeypatch.setattr(cache_module.os, "posix_fallocate", full)
    with pytest.raises(DoesNotFit, match="no room for the step's inputs"):
        use(root, source, NAMES[1])
    assert kept(root) == set()


def test_a_disk_that_refuses_is_a_failure_of_the_store(tmp_path: Path, source: Source) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="could not be brought"):
        use(tmp_path / "file", source, NAMES[0])


HOLD = """
import os, sys
from pathlib import Path
from store.cache import NodeCache

root, held, arriving = sys.argv[1:]

def bring(name, size_bytes, descriptor, check):
    if name == arriving:
        print("begun", flush=True)
        sys.stdin.read()
    os.pwrite(descriptor, bytes(size_bytes), 0)

cache = NodeCache(Path(root), 3000)
with cache.holding({held: 1000}, bring, lambda: None), cache.holding({arriving: 1000}, bring, lambda: None):
    pass
"""


def test_a_killed_process_pins_nothing_and_what_it_was_bringing_is_cleared(root: Path, source: Source) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root), NAMES[0], NAMES[1]],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        use(root, source, NAMES[2])
        assert (root / "blobs" / NAMES[0]).exists()
        process.kill()
    use(root, source, *NAMES[3:6])
    assert kept(root) == set(NAMES[3:6])
