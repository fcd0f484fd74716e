"""How far GPTQModel may get ahead of its packing."""

import threading

from engines.gptqmodel_work import OneLayerBehind

SOON = 0.2
DEADLINE = 10


def test_a_layer_is_finished_only_when_the_one_before_is_packed() -> None:
    packing = OneLayerBehind()
    packing.layer_complete(layer_idx=4, submodule_finalized=False)  # the first, as where work goes on
    finished = threading.Thread(target=lambda: packing.layer_complete(layer_idx=5, submodule_finalized=False))
    finished.start()
    finished.join(SOON)
    assert finished.is_alive()
    packing.layer_complete(layer_idx=4, submodule_finalized=True)
    finished.join(DEADLINE)
    assert not finished.is_alive()


def test_a_layer_without_anything_to_pack_holds_up_none() -> None:
    packing = OneLayerBehind()
    for layer in range(3):
        packing.layer_complete(layer_idx=layer, submodule_finalized=False)
        packing.layer_complete(layer_idx=layer, submodule_finalized=True)
