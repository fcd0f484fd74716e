"""Every step kind by its name."""

from collections.abc import Mapping

from pipeline.benchmark import Benchmark
from pipeline.calibrate import Calibrate
from pipeline.convert import Convert
from pipeline.document import Document
from pipeline.evaluate import Evaluate
from pipeline.fetch import Fetch
from pipeline.imatrix import Imatrix
from pipeline.publish import Publish
from pipeline.quantize import Quantize
from pipeline.reference import Reference
from pipeline.step_kind import StepKind
from pipeline.verify import Verify

_ALL = (
    *(Fetch(), Convert(), Calibrate(), Imatrix(), Quantize()),
    *(Reference(), Verify(), Evaluate(), Benchmark(), Document(), Publish()),
)
KINDS: Mapping[str, StepKind] = {kind.name: kind for kind in _ALL}
