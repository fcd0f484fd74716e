"""GPTQModel's checkpoints, made to go from one machine to another: what it stores after a layer, and how it goes on.

Its own refuse whatever lies behind links, as the inputs of a step do, all families but two, rules for modules and
output heads, and cannot read what they have stored of AWQ in bfloat16. What they hold does for all of that; see
``docs/decisions/0021-resume.md``. With ``engines/gptqmodel.py`` and ``engines/gptqmodel_watch.py`` all that knows its
interface. Refuses to know where a checkpoint comes from and where it goes.
"""

import contextlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engines.context import Suspended
from engines.memory_errors import is_memory_error

if TYPE_CHECKING:
    from gptqmodel.looper.checkpoint import CheckpointExtension
    from gptqmodel.looper.gptq_checkpoint import QuantizationCheckpointAdapter

CURRENT = "CURRENT"
OBJECTS = "objects"
ORDER = "order"  # of a packed module's tensors, which is theirs in the result's files
BYTES_PER_SECOND = 200e6  # of what a checkpoint holds, copied, written and hashed several times: a first guess
CHEAP_SECONDS = 1.0  # what takes no longer is done after each layer
PART_MAX = 0.05  # of the time goes into checkpoints that take longer

log = logging.getLogger(__name__)


class CheckpointRefused(Exception):
    """GPTQModel does not go on from a checkpoint: of other work, of another kind of device, or damaged."""


class Listener(Protocol):
    """Who hears of checkpoints."""

    def resumed(self, layers: int, logged: Sequence[Mapping[str, Any]]) -> None:
        """Hear how many layers are done before the first begins, and what the log says of them."""

    def kept(self) -> None:
        """Hear that a checkpoint is complete."""


@dataclass(frozen=True)
class Checkpoints:
    """How one run is to keep what it has done.

    Attributes:
        folder: where GPTQModel keeps its checkpoints, and from where it goes on.
        work: the same for each attempt at this work, and for no other.
        version: of GPTQModel.
        state_bytes: about what a checkpoint holds beside the finished layers.
        must_leave: whether to keep what is done and leave, asked after each layer.
        listener: hears of it.
    """

    folder: Path
    work: str
    version: str
    state_bytes: int
    must_leave: Callable[[], bool]
    listener: Listener


def newest_files(folder: Path) -> Mapping[str, Path]:
    """Return what the newest checkpoint in a folder consists of, by the names that it must have in another."""
    newest = json.loads((folder / CURRENT).read_bytes())["generations"][0]
    manifest = json.loads((folder / OBJECTS / newest).read_bytes())
    objects = {newest, manifest["continuation"], *manifest["artifacts"].values()}
    return {name: folder / name for name in [CURRENT, *(f"{OBJECTS}/{one}" for one in sorted(objects))]}


@contextlib.contextmanager
def keeping(checkpoints: Checkpoints) -> Iterator[Any]:
    """Have GPTQModel keep checkpoints while it quantizes, and go on from one that is there.

    Yields:
        what its ``quantize`` is to be given as ``checkpoint``.

    Raises:
        CheckpointRefused: a checkpoint cannot be used, or none can be made.
        Suspended: it had to leave, and has.
    """
    from gptqmodel.looper import gptq_checkpoint
    from gptqmodel.looper.checkpoint_store import CheckpointConfig

    @contextlib.contextmanager
    def session(config: Any, model: Any) -> Iterator["CheckpointExtension"]:
        """Stand in for its own session, which takes the signals that are the child's."""
        with _extension(config, checkpoints) as extension:
            model.quantize_config.offload_to_disk_path = tempfile.mkdtemp(prefix="attempt-", dir=extension.store.root)
            yield extension

    stand_ins = {
        "checkpoint_session": session,
        "validate_checkpoint_support": lambda *_, **__: None,
        "_source_identity": lambda _: {"work": checkpoints.work, "gptqmodel": checkpoints.version},
        "ContinuationCodec": _Unread,
    }
    own = {name: getattr(gptq_checkpoint, name) for name in stand_ins}
    vars(gptq_checkpoint).update(stand_ins)  # it leaves no other place to say so
    try:
        yield CheckpointConfig(path=checkpoints.folder)
    finally:
        vars(gptq_checkpoint).update(own)


class _Unread:
    """Stands in for what makes bytes of the samples' hidden states, gigabytes of them, to know the samples again."""

    @staticmethod
    def dumps(_: object) -> bytes:
        """Return nothing: the work says which samples they are."""
        return b""


class Pace:
    """When the next checkpoint is worth its time.

    Args:
        seconds: what the first is thought to take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since = time.monotonic()

    def is_due(self) -> bool:
        """Return whether a checkpoint costs little beside the work since the last."""
        return self._seconds <= CHEAP_SECONDS or time.monotonic() - self._since >= self._seconds / PART_MAX

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Take the time of a checkpoint, by which the next is due."""
        began = time.monotonic()
        yield
        self._since = time.monotonic()
        self._seconds = self._since - began


def _extension(config: Any, checkpoints: Checkpoints) -> "CheckpointExtension":
    from gptqmodel.looper.checkpoint import CheckpointExtension

    class Extension(CheckpointExtension):  # type: ignore[misc]
        """Keeps a checkpoint after a layer where that is worth its time; one that fails does not fail the work."""

        def __init__(self) -> None:
            super().__init__(config, _adapter())
            self._pace = Pace(checkpoints.state_bytes / BYTES_PER_SECOND)
            self._is_able = True

        def on_start(self, context: Any) -> int:
            with _told_as_refused():
                layers: int = super().on_start(context)
            checkpoints.listener.resumed(layers, context.processors[0].log)
            return layers

        def on_boundary(self, boundary: Any) -> None:
            must_leave = checkpoints.must_leave()
            if must_leave or (self._is_able and self._pace.is_due()):
                boundary.quiesce()  # raises what went wrong in the layer
                if self._is_able:
                    self._keep(boundary)
            if must_leave:
                raise Suspended
            self.next_step = self.plan.after(boundary.step)

        def _keep(self, boundary: Any) -> None:
            try:
                with self._pace.measured():
                    super().on_boundary(boundary)
                checkpoints.listener.kept()
            except Exception:
                log.warning("no checkpoint can be kept; what is done from now on is lost if broken off", exc_info=True)
                self._is_able = False

    return Extension()


@contextlib.contextmanager
def _told_as_refused() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_memory_error(error):
            raise
        raise CheckpointRefused(f"{type(error).__name__}: {error}") from error


def _adapter() -> "QuantizationCheckpointAdapter":
    from gptqmodel.looper.gptq_checkpoint import QuantizationCheckpointAdapter
    from gptqmodel.nn_modules.qlinear import AWQuantLinear

    class Adapter(QuantizationCheckpointAdapter):  # type: ignore[misc]
        """Holds what its base forgets: in what type AWQ's scales are, and in which order a module's tensors."""

        def bind(self, context: Any) -> dict[str, Any]:
            identity: dict[str, Any] = super().bind(context)
            topology = identity["device_topology"]
            used = {device for pool in topology["pools"].values() for device in pool}
            # Of a machine only what computes counts, and not which one of its kind it is.
            alike = [
                {name: device[name] for name in ("index", "name", "capability")}
                for device in topology["visible_cuda"]
                if f"cuda:{device['index']}" in used
            ]
            return {**identity, "device_topology": {**topology, "visible_cuda": alike}}

        def capture(self) -> tuple[Any, Any]:
            state, artifacts = super().capture()
            for name, spec in state["specs"].items():
                module = self.model.model.get_submodule(name)
                spec[ORDER] = list(module.state_dict())
                if isinstance(module, AWQuantLinear):
                    spec["compute_dtype"] = str(module.scales.dtype)
            return state, artifacts

        def restore(self, state: Any, artifacts: Any) -> None:
            orders = {name: spec.pop(ORDER) for name, spec in state["specs"].items()}
            super().restore(state, artifacts)
            for name, order in orders.items():
                module = self.model.model.get_submodule(name)
                sorted_first = {key: module._buffers[key] for key in order}  # noqa: SLF001 - no other way to sort
                module._buffers = {**sorted_first, **module._buffers}  # noqa: SLF001

    return Adapter()
