"""Data sets and sources of examples, their order in training, and augmentation."""

import importlib
from typing import TYPE_CHECKING, Any

from tfreg.data.arrays import Dataset, Split, permute
from tfreg.data.files import NAMES, DataError, load
from tfreg.data.folders import load_folder
from tfreg.data.indexed import Indexed
from tfreg.data.pictures import images, load_images
from tfreg.data.pipeline import Pipeline
from tfreg.data.streams import stream
from tfreg.data.tables import load_table
from tfreg.data.tfrecords import records

if TYPE_CHECKING:
    from tfreg.data import augment

__all__ = [
    "NAMES",
    "DataError",
    "Dataset",
    "Indexed",
    "Pipeline",
    "Split",
    "augment",
    "images",
    "load",
    "load_folder",
    "load_images",
    "load_table",
    "permute",
    "records",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name == "augment":  # It alone imports TensorFlow.
        return importlib.import_module("tfreg.data.augment")
    raise AttributeError(f"module 'tfreg.data' has no attribute {name!r}")
