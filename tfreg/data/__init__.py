"""Data sets and the order of their examples, for whoever trains on arrays."""

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
