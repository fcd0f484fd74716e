"""How far an engine is that goes through a model layer by layer, perhaps more than once, and hears of each module."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engines.context import EngineContext, Measurement, Progress
from engines.sentinel import Place

IN_LAYER = re.compile(r"(.*?\.)?(?P<layer>\d+)\.(?P<module>.+)")


class LayerProgress:
    """Knows how far the work is.

    Attributes:
        chosen: the modules to quantize, by name.
        device: where they are worked on.

    Args:
        context: where progress is reported, and what is measured.
        chosen: see above.
        layer_count: of the model.
        seconds: about how long each pass through the model takes of a layer; only their relations matter.
    """

    def __init__(
        self, context: EngineContext, chosen: dict[str, Any], layer_count: int, seconds: Sequence[float]
    ) -> None:
        self.chosen = chosen
        self.device = context.device
        self._context = context
        self._layer_count = layer_count
        self._names = {module: name for name, module in chosen.items()}
        self._of_layer = Counter(place_of(name)[0] for name in chosen)
        self._seconds = seconds
        self._pass = 0
        self._modules = 0  # of the layer that is worked on

    def by_layer(self) -> list[list[Any]]:
        """Return the modules of each layer, and at the end those that are in none."""
        layers: dict[int, list[Any]] = {}
        for name, module in self.chosen.items():
            layers.setdefault(place_of(name)[0], []).append(module)
        return [layers[index] for index in sorted(layers, key=lambda index: (index < 0, index))]

    def begin(self, index: int) -> None:
        """Begin with one of the passes through the model."""
        self._pass = index

    def place(self, module: Any) -> Place:
        """Return where one of the chosen modules is."""
        return place_of(self._names[module])

    def module_done(self, module: Any, values: Mapping[str, float]) -> None:
        """Note what was measured of a module, once its work is done."""
        layer, place = self.place(module)
        self._modules += 1
        self._context.measure(Measurement(layer, place, values))
        done = self._layer_count if layer < 0 else layer + min(self._modules / self._of_layer[layer], 1.0)
        self._report(done, self._names[module])

    def layer_done(self, modules: Iterable[Any]) -> None:
        """Note that a part of the model is done, which may be a layer.

        Args:
            modules: what it consists of.
        """
        self._modules = 0
        layers = [self.place(module).layer for module in modules if module in self._names]
        if layers and (layer := max(layers)) >= 0:
            self._report(layer + 1, f"layer {layer} is done")

    def saving(self) -> None:
        """Note that all layers are done and the result is being written."""
        self._context.report(Progress(self._layer_count, self._layer_count, "layers", "saving"))

    def _report(self, layers: float, message: str) -> None:
        """Report how many layers the present pass has done, as if one pass did all the work."""
        so_far = sum(self._seconds[: self._pass]) * self._layer_count + self._seconds[self._pass] * layers
        done = so_far / sum(self._seconds)
        self._context.report(Progress(round(done, 3), self._layer_count, "layers", message))


def place_of(name: str) -> Place:
    """Return the layer and the name within it; -1 for what is in none."""
    match = IN_LAYER.fullmatch(name)
    return Place(int(match["layer"]), match["module"]) if match else Place(-1, name)
