"""What every image must be, as functions that raise AssertionError when it is not.

Expectations come from the Variant and its lock alone. Each module adds its checks to those of a
layer when it is imported here.
"""

from imagematrix.checks import absent, content, cuda, identity, labels, sbom, serving, size, slim
from imagematrix.checks.check import BY_LAYER, Check, NoGpuError, checks_of

__all__ = [
    "BY_LAYER",
    "Check",
    "NoGpuError",
    "absent",
    "checks_of",
    "content",
    "cuda",
    "identity",
    "labels",
    "sbom",
    "serving",
    "size",
    "slim",
]
