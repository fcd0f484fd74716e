"""How far an engine is that goes through a model layer by layer, perhaps more than once, and hears of each module."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from engines.context import EngineContext, Measurement, Progress
from engines.sentinel import Place

IN_LAYER = re.compile(r"(.*?\.)?(?P<layer>\d+)\.(?P<module>.+)")


class LayerProgress:
    """Knows how far the work is.

    Attributes:
        chosen: the modules to quantize, by name.
        device: where they are worked on.
    """

    def __init__(self, context: EngineContext, chosen: dict[str, Any], layer_count: int) -> None:
        self.chosen = chosen
        self.device = context.device
        self._context = context
        self._layer_count = layer_count
        self._names = {module: name for name, module in chosen.items()}
        self._of_layer = Counter(place_of(name)[0] for name in chosen)
        self._before = self._total = self._layer = self._modules = 0

    def by_layer(self) -> list[list[Any]]:
        """Return the modules of each layer, and at the end those that are in none."""
        layers: dict[int, list[Any]] = {}
        for name, module in self.chosen.items():
            layers.setdefault(place_of(name)[0], []).append(module)
        return [layers[index] for index in sorted(layers, key=lambda index: (index < 0, index))]

    def begin(self, index: int, passes: int) -> None:
        """Begin with one of several passes through the model."""
        self._before, self._total = index * self._layer_count, passes * self._layer_count
        self._layer = self._modules = 0

    def place(self, module: Any) -> Place:
        """Return where one of the chosen modules is."""
        return place_of(self._names[module])

    def module_done(self, module: Any, values: Mapping[str, float]) -> None:
        """Note what was measured of a module, once its work is done."""
        layer, place = self.place(module)
        self._modules += 1
        self._context.measure(Measurement(layer, place, values))
        self._report(min(self._modules / self._of_layer[layer], 1.0), self._names[module])

    def layer_done(self) -> None:
        """Note that a layer is done; what follows the last counts as none."""
        self._modules = 0
        if self._layer < self._layer_count:
            self._layer += 1
            self._report(0.0, f"layer {self._layer - 1} is done")

    def saving(self) -> None:
        """Note that all layers are done and the result is being written."""
        self._context.report(Progress(self._total, self._total, "layers", "saving"))

    def _report(self, part: float, message: str) -> None:
        done = min(self._before + self._layer + part, self._total)
        self._context.report(Progress(round(done, 3), self._total, "layers", message))


def place_of(name: str) -> Place:
    """Return the layer and the name within it; -1 for what is in none."""
    match = IN_LAYER.fullmatch(name)
    return Place(int(match["layer"]), match["module"]) if match else Place(-1, name)
