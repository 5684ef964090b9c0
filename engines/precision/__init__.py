"""Half-precision graphs: made from float32 ones offline, and checked on any machine."""

from engines.precision.convert import PRECISIONS, Converted, Precision, convert
from engines.precision.emulate import check, emulated

__all__ = ["PRECISIONS", "Converted", "Precision", "check", "convert", "emulated"]
