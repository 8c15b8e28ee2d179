"""The models of benchmarks/gpu.py in Keras, JAX and PyTorch, as fast as each can.

    train = gpu_peers.make_jax("MLP 32", gpu_peers.SHAPES["MLP 32"])
    steps = train()  # of an epoch

Each imports its library when it is called, so that one that is missing is left out.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

L2, RATE, CLASSES = 1e-4, 1e-3, 10  # Keras's L2; twice that for tfreg, which halves.
# Filters and strides of ResNet-18's blocks.
BLOCKS = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Batch size, shape of an example, and number of batches in an epoch."""

    batch: int
    example: tuple[int, ...]
    batches: int


SHAPES = {
    "MLP 32": Shape(32, (784,), 500),
    "MLP 1024": Shape(1024, (784,), 50),
    "LeNet 128": Shape(128, (28, 28, 1), 100),
    "ResNet-18 256": Shape(256, (32, 32, 3), 24),
}


def make_data(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Returns random inputs and classes."""
    rng, count = np.random.default_rng(0), shape.batch * shape.batches
    x = rng.normal(size=(count, *shape.example)).astype(np.float32)
    return x, rng.integers(0, CLASSES, count).astype(np.int32)


def make_fit(name: str, shape: Shape, steps: int) -> Callable[[], int]:
    """Returns Keras's fit, which compiles by XLA on a GPU."""
    import keras
    from keras import layers

    l2 = keras.regularizers.L2(L2)

    def conv(filters, size=3, strides=1, padding="same", activation=None, bias=False):
        options = {"activation": activation, "use_bias": bias, "kernel_regularizer": l2}
        return layers.Conv2D(filters, size, strides, padding, **options)

    def dense(units, activation=None):
        return layers.Dense(units, activation, kernel_regularizer=l2)

    x = inputs = keras.Input(shape.example)
    if name.startswith("MLP"):
        x = dense(128, "relu")(x)
    elif name.startswith("LeNet"):
        x = layers.MaxPooling2D()(conv(6, 5, activation="relu", bias=True)(x))
        x = conv(16, 5, padding="valid", activation="relu", bias=True)(x)
        x = layers.Flatten()(layers.MaxPooling2D()(x))
        x = dense(84, "relu")(dense(120, "relu")(x))
    else:
        x = layers.ReLU()(layers.BatchNormalization()(conv(64)(x)))
        for filters, strides in BLOCKS:
            y = layers.BatchNormalization()(conv(filters, 3, strides)(x))
            y = layers.BatchNormalization()(conv(filters)(layers.ReLU()(y)))
            if strides > 1:
                x = layers.BatchNormalization()(conv(filters, 1, strides)(x))
            x = layers.ReLU()(layers.Add()([x, y]))
        x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, dense(CLASSES)(x))
    model.compile(
        keras.optimizers.Adam(RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=min(steps, shape.batches),
    )
    x, y = make_data(shape)

    def train() -> int:
        model.fit(x, y, shape.batch, verbose=0)
        return shape.batches

    return train


def make_jax(name: str, shape: Shape) -> Callable[[], int]:
    """Returns a scan of JAX with Optax over an epoch.

    Raises:
        ImportError: JAX isn't installed, or the model isn't written for it.
    """
    import jax
    from jax import numpy as jnp

    if name.startswith("ResNet"):
        raise ImportError("no ResNet for JAX")
    kernels = [(784, 128), (128, CLASSES)]
    if name.startswith("LeNet"):
        kernels = [(5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, CLASSES)]
    keys = jax.random.split(jax.random.PRNGKey(0), len(kernels))
    params = [
        (jax.random.normal(k, s) * np.prod(s[:-1]) ** -0.5, jnp.zeros(s[-1]))
        for k, s in zip(keys, kernels, strict=True)
    ]

    def forward(params: Any, h: Any) -> Any:
        for i, (w, b) in enumerate(params):
            if w.ndim == 4:
                names = ("NHWC", "HWIO", "NHWC")
                padding = "VALID" if i else "SAME"
                conv = jax.lax.conv_general_dilated
                h = jax.nn.relu(
                    conv(h, w, (1, 1), padding, dimension_numbers=names) + b
                )
                window = (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
                h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, *window)
                continue
            h = h.reshape(len(h), -1) @ w + b
            h = jax.nn.relu(h) if i < len(params) - 1 else h
        return h

    return scan(forward, params, make_data(shape), shape.batch)


def scan(
    forward: Callable[[Any, Any], Any],
    params: list[tuple[Any, Any]],
    examples: tuple[np.ndarray, np.ndarray],
    batch: int,
    l2: float = L2,
) -> Callable[[], int]:
    """Returns a scan of JAX with Optax's Adam over an epoch.

    Args:
        forward: (params, inputs) -> logits.
        params: pairs of a kernel, with a penalty, and a bias.
        examples: inputs and classes.
        batch: number of examples in a step.
        l2: scale of the kernels' squares; 0: no penalty is computed.
    """
    import jax
    import optax
    from jax import numpy as jnp

    x, y = map(jnp.asarray, examples)
    optimizer = optax.adam(RATE)

    def compute_loss(params: Any, x: Any, y: Any) -> tuple[Any, Any]:
        logits = forward(params, x)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        penalty = l2 * sum(jnp.sum(w**2) for w, _ in params) if l2 else 0.0
        return loss + penalty, (logits.argmax(-1) == y).mean()

    def update(carry: Any, rows: Any) -> tuple[Any, Any]:
        params, state = carry
        grad = jax.value_and_grad(compute_loss, has_aux=True)
        losses, grads = grad(params, x[rows], y[rows])
        changes, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, changes), state), losses

    train_epoch = jax.jit(lambda carry, order: jax.lax.scan(update, carry, order))
    carry = [(params, optimizer.init(params))]

    def train() -> int:
        order = np.random.default_rng(0).permutation(len(y)).reshape(-1, batch)
        carry[0], losses = train_epoch(carry[0], order)
        jax.block_until_ready(losses)
        return len(order)

    return train


def make_torch(name: str, shape: Shape) -> Callable[[], int]:
    """Returns PyTorch's compiled step, in channels_last, L2 as a penalty."""
    import torch
    from torch import nn

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _make_torch_model(nn, name).to(device)
    x, y = make_data(shape)
    x = torch.tensor(np.moveaxis(x, -1, 1) if x.ndim == 4 else x, device=device)
    if x.ndim == 4:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    y = torch.tensor(y.astype(np.int64), device=device)
    fused = {"fused": True} if device == "cuda" else {}
    optimizer = torch.optim.Adam(model.parameters(), RATE, **fused)
    kernels = [p for p in model.parameters() if p.ndim > 1]

    @torch.compile
    def compute_loss(x: Any, y: Any) -> Any:
        loss = nn.functional.cross_entropy(model(x), y)
        return loss + L2 * sum((k**2).sum() for k in kernels)

    def train() -> int:
        order = torch.randperm(len(y), device=device).reshape(-1, shape.batch)
        for rows in order:
            optimizer.zero_grad()
            loss = compute_loss(x[rows], y[rows])
            loss.backward()
            optimizer.step()
        loss.item()
        return len(order)

    return train


def _make_torch_model(nn: Any, name: str) -> Any:
    if name.startswith("MLP"):
        return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    if name.startswith("LeNet"):
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
            nn.Linear(84, CLASSES),
        )

    def conv(before, filters, size=3, strides=1):
        layer = nn.Conv2d(before, filters, size, strides, size // 2, bias=False)
        return [layer, nn.BatchNorm2d(filters)]

    class Block(nn.Module):
        def __init__(self, before, filters, strides):
            super().__init__()
            first, second = conv(before, filters, 3, strides), conv(filters, filters)
            self.main = nn.Sequential(*first, nn.ReLU(), *second)
            plain = (before, 1) == (filters, strides)
            short = [] if plain else conv(before, filters, 1, strides)
            self.short = nn.Sequential(*short)

        def forward(self, x):
            return nn.functional.relu(self.main(x) + self.short(x))

    before = [64, *(filters for filters, _ in BLOCKS)]
    blocks = [Block(b, *block) for b, block in zip(before, BLOCKS, strict=False)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES)]
    return nn.Sequential(*conv(3, 64), nn.ReLU(), *blocks, *head)
