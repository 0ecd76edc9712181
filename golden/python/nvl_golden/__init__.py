"""Records what any PyTorch model computes, layer by layer, and compares it with a golden recording.

A recording is an *activation dump*, a folder that `docs/activation-dump.md` describes::

    with nvl_golden.record(model, "dumps/run-1", sites=["model.layers.*.mlp"]):
        model(input_ids)

    nvl_golden.assert_matches("goldens/run-1", "dumps/run-1")

torch is imported only to record tensors: reading and comparing dumps does not need it.
"""

from ._core import GoldenError, __version__
from .comparison import Comparison, assert_matches, compare
from .dump import Dump, Entry
from .recorder import Recorder
from .recording import record

__all__ = [
    "Comparison",
    "Dump",
    "Entry",
    "GoldenError",
    "Recorder",
    "__version__",
    "assert_matches",
    "compare",
    "record",
]
