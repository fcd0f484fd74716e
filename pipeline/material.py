"""Which step makes what a method reads, and what that step needs itself."""

from collections.abc import Mapping

from engines.methods.base import Material

MADE_BY: Mapping[Material, str] = {"snapshot": "fetch", "gguf": "convert", "samples": "calibrate", "imatrix": "imatrix"}
# In the order in which they can be made.
NEEDS: Mapping[Material, tuple[str, ...]] = {
    "snapshot": (),
    "gguf": ("fetch",),
    "samples": ("fetch",),
    "imatrix": ("fetch", "convert", "calibrate"),
}
