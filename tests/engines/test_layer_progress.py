import dataclasses

from engines.context import Progress
from engines.layer_progress import LayerProgress
from tests.engines.conftest import MakeContext

LAYERS = 4


def chosen() -> dict[str, object]:
    return {f"model.layers.{layer}.{part}": object() for layer in range(LAYERS) for part in ("q_proj", "v_proj")}


def followed(make_context: MakeContext, seconds: list[float]) -> tuple[LayerProgress, list[Progress]]:
    reports: list[Progress] = []
    context = dataclasses.replace(make_context(), report=reports.append)
    return LayerProgress(context, chosen(), LAYERS, seconds), reports


def test_each_pass_counts_by_its_part_of_the_time(make_context: MakeContext) -> None:
    follower, reports = followed(make_context, [1.0, 3.0])
    for index in range(2):
        follower.begin(index)
        for modules in follower.by_layer():
            follower.layer_done(modules)
    follower.saving()
    assert [one.done for one in reports] == [0.25, 0.5, 0.75, 1, 1.75, 2.5, 3.25, 4, 4]
    assert {one.total for one in reports} == {LAYERS}


def test_a_module_is_a_part_of_its_layer(make_context: MakeContext) -> None:
    follower, reports = followed(make_context, [2.0])
    for modules in follower.by_layer()[:2]:
        for module in modules:
            follower.module_done(module, {"loss": 0.5})
        follower.layer_done(modules)
    assert [one.done for one in reports] == [0.5, 1, 1, 1.5, 2, 2]


def test_what_stands_before_the_layers_counts_for_none(make_context: MakeContext) -> None:
    follower, reports = followed(make_context, [2.0])
    follower.layer_done([object()])
    assert not reports
