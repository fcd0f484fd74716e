"""What a folder takes on its disk: links once, what is linked to not, and a slow look not too often."""

import os
import time
from pathlib import Path

import pytest

from workers import disk_use
from workers.disk_use import DiskWatch, disk_bytes

FILE_BYTES = 1 << 20


def write(path: Path, count: int = FILE_BYTES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(count))
    return path


def test_files_at_any_depth_count_as_they_lie_on_the_disk(tmp_path: Path) -> None:
    assert disk_bytes(tmp_path) == 0
    write(tmp_path / "a")
    write(tmp_path / "b" / "c" / "d")
    assert disk_bytes(tmp_path) == 2 * FILE_BYTES
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(FILE_BYTES)
    assert disk_bytes(tmp_path) == 2 * FILE_BYTES


def test_links_to_one_file_count_once_and_inputs_not_at_all(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "input")
    inside = tmp_path / "inside"
    os.link(write(inside / "checkpoint" / "layer"), inside / "saved")
    (inside / "input").symlink_to(outside)
    (inside / "inputs").symlink_to(outside.parent)
    assert disk_bytes(inside) == FILE_BYTES


def test_what_is_not_there_or_vanishes_is_nothing(tmp_path: Path) -> None:
    assert disk_bytes(tmp_path / "gone") == 0


def test_the_peak_stays_when_files_go(tmp_path: Path) -> None:
    watch = DiskWatch(tmp_path)
    assert watch.peak_bytes is None
    path = write(tmp_path / "a")
    watch.look()
    path.unlink()
    watch.look()
    assert watch.peak_bytes == FILE_BYTES


def test_a_folder_that_is_slow_to_look_at_is_looked_at_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes two seconds here, and at most 2 % of the time goes into looks."""
    now = 1000.0
    looks: list[float] = []

    def look(_: Path) -> int:
        nonlocal now
        looks.append(now)
        now += 2
        return 0

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(disk_use, "disk_bytes", look)
    watch = DiskWatch(tmp_path)
    for _ in range(420):
        watch.look_if_due()
        now += 0.5
    assert looks == pytest.approx([1000, 1102, 1204], abs=1)
