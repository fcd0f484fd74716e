"""Which steps will find their work done is told beforehand, by the keys that they will have."""

import shutil
from pathlib import Path

import pytest

from core.ids import TeamId
from db import keys
from engines import source
from engines.recipe import parse_recipe
from pipeline.plan import plan
from pipeline.reuse import Reuse, expected_reuse
from tests.conftest import TINY_LLAMA
from tests.workers.conftest import Service

EVALUATION = {"domains": ["prose"], "windows": 1}


def foretold(service: Service, recipe: str, folder: Path = TINY_LLAMA, team: TeamId | None = None) -> Reuse:
    steps, model = plan(parse_recipe(recipe), EVALUATION), source.inspect(folder)
    return service.database.run(
        lambda session: expected_reuse(session, team or service.team, folder.as_uri(), steps, model)
    )


@pytest.mark.slow
def test_what_is_foretold_is_what_is_reused(service: Service) -> None:
    for pool in ("cpu", "gpu"):
        service.start("worker", "--pool", pool)
    service.start("dispatch")
    assert foretold(service, "gguf:Q8_0") == Reuse()

    first = service.submit(steps=plan(parse_recipe("gguf:Q8_0"), EVALUATION))
    assert service.wait(first, seconds=240).status == "succeeded"
    assert foretold(service, "gguf:Q8_0").kinds == {"convert", "quantize", "reference", "verify", "evaluate"}

    expected = foretold(service, "gguf:Q4_0")
    assert expected.kinds == {"convert", "reference"}
    assert expected.fetched_at is not None
    second = service.wait(service.submit(steps=plan(parse_recipe("gguf:Q4_0"), EVALUATION)), seconds=240)
    assert second.status == "succeeded"
    assert {step.kind for step in second.steps if step.reused} == expected.kinds


def test_of_another_teams_work_and_of_a_changed_source_nothing_is_foretold(service: Service, tmp_path: Path) -> None:
    folder = shutil.copytree(TINY_LLAMA, tmp_path / "model")
    service.start("worker", "--pool", "cpu")
    service.start("dispatch")
    job = service.wait(service.submit(steps=plan(parse_recipe("synthetic"), EVALUATION)[:2], source=folder))
    assert job.status == "succeeded"
    assert foretold(service, "synthetic", folder).kinds == {"quantize"}

    other = service.database.run(lambda session: keys.authenticate(session, keys.create_key(session, "two", "")[1]))
    assert foretold(service, "synthetic", folder, other) == Reuse()

    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace('"max_position_embeddings": 2048', '"max_position_embeddings": 99')
    )
    assert foretold(service, "synthetic", folder) == Reuse()
