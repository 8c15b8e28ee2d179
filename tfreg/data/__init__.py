"""Data sets as arrays, and the order of their examples in training."""

from tfreg.data.arrays import Dataset, Split, permute, stream
from tfreg.data.files import NAMES, DataError, load

__all__ = ["NAMES", "DataError", "Dataset", "Split", "load", "permute", "stream"]
