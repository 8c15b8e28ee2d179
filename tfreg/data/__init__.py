"""Data sets as arrays, and the order of their examples in training."""

from tfreg.data.arrays import (
    NAMES,
    DataError,
    Dataset,
    Split,
    load,
    permute,
    stream,
)

__all__ = ["NAMES", "DataError", "Dataset", "Split", "load", "permute", "stream"]
