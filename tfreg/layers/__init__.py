"""tfreg's own layers, for whoever builds a model; each takes regularizers by target."""

from tfreg.layers.base import Layer
from tfreg.layers.core import (
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    SeparableConv2D,
    Sequential,
)
from tfreg.layers.normalization import BatchNorm

__all__ = [
    "BatchNorm",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "SeparableConv2D",
    "Sequential",
]
