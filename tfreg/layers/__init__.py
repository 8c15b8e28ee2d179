"""Layers with a regularizer argument for each target, for authors of models."""

from tfreg.layers.base import Layer
from tfreg.layers.core import Conv2D, Dense, Flatten, SeparableConv2D
from tfreg.layers.dropout import Dropout
from tfreg.layers.embedding import Embedding
from tfreg.layers.foreign import keras_layer
from tfreg.layers.normalization import BatchNorm
from tfreg.layers.pooling import max_pool2d
from tfreg.layers.sequential import Sequential

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
    "keras_layer",
    "max_pool2d",
]
