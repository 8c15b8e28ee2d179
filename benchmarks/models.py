"""Prints the steps a second of several models in tfreg, Keras, PyTorch and JAX.

    python benchmarks/models.py --models=lenet,lstm --ways=tfreg,fit

Each way has a process of its own, and all of them take turns, so that a machine whose
speed drifts favours none. The trap: two libraries in one process, whose threads wait
for each other's cores.
"""

import multiprocessing
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the commands do.
os.environ["KERAS_BACKEND"] = "tensorflow"

import gpu_peers
import numpy as np
from absl import app, flags

_MODELS = flags.DEFINE_list("models", None, "names of models [all]")
_WAYS = flags.DEFINE_list("ways", None, "names of ways [all that are installed]")
_TURNS = flags.DEFINE_integer("turns", 5, "turns of each way", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "least time of a turn", lower_bound=0.1)

L2 = 1e-4  # Keras's; twice that for tfreg, which halves the square.
RATE = 1e-3
CLASSES = 10

# Name -> batch size, shape of an example, its kind, number of examples.
SHAPES = {
    "mlp": (32, (784,), "float", 16_000),
    "mlp dropout": (32, (784,), "float", 16_000),
    "lenet 32": (32, (28, 28, 1), "float", 4_000),
    "lenet": (128, (28, 28, 1), "float", 6_400),
    "resnet": (64, (32, 32, 3), "float", 1_280),
    "mobilenet block": (64, (16, 16, 64), "float", 1_280),
    "mobilenet v2": (32, (32, 32, 3), "float", 320),
    "transformer": (32, (64,), "ids", 1_280),
    "lstm": (32, (50, 32), "float", 2_560),
    "embedding bag": (128, (20,), "ids", 6_400),
}
BEST = "best fit"


def make_data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns random inputs and classes."""
    _, shape, kind, count = SHAPES[name]
    rng = np.random.default_rng(0)
    most = 100_000 if name == "embedding bag" else 1_000
    x = rng.integers(0, most, (count, *shape)).astype(np.int32)
    if kind == "float":
        x = rng.normal(size=(count, *shape)).astype(np.float32)
    return x, rng.integers(0, CLASSES, count).astype(np.int32)


def make_keras(name: str, penalize: bool = True):  # noqa: ANN201
    """Returns the Keras model, L2 on its kernels."""
    import keras
    from keras import layers

    l2 = keras.regularizers.L2(L2) if penalize else None

    def dense(units, activation=None):
        return layers.Dense(units, activation, kernel_regularizer=l2)

    def conv(filters, size, **options):
        return layers.Conv2D(filters, size, kernel_regularizer=l2, **options)

    def normalize(x, activate=True):
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if activate else x

    inputs = keras.Input(SHAPES[name][1], dtype="float32")
    if SHAPES[name][2] == "ids":
        inputs = keras.Input(SHAPES[name][1], dtype="int32")
    x = inputs
    if name.startswith("mlp"):
        x = dense(128, "relu")(x)
        x = layers.Dropout(0.5)(x) if "dropout" in name else x
    elif name.startswith("lenet"):
        x = conv(6, 5, padding="same", activation="relu")(x)
        x = conv(16, 5, activation="relu")(layers.MaxPooling2D()(x))
        x = layers.Flatten()(layers.MaxPooling2D()(x))
        x = dense(84, "relu")(dense(120, "relu")(x))
    elif name == "resnet":
        x = normalize(conv(16, 3, padding="same", use_bias=False)(x))
        for filters, strides in ((16, 1), (32, 2), (64, 2)):
            y = conv(filters, 3, strides=strides, padding="same", use_bias=False)(x)
            y = conv(filters, 3, padding="same", use_bias=False)(normalize(y))
            x = conv(filters, 1, strides=strides, use_bias=False)(x)
            x = layers.ReLU()(layers.Add()([x, normalize(y, activate=False)]))
        x = layers.GlobalAveragePooling2D()(x)
    elif name == "mobilenet block":
        y = normalize(conv(384, 1, use_bias=False)(x))
        y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
        y = conv(64, 1, use_bias=False)(normalize(y))
        x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    elif name == "mobilenet v2":
        model = keras.applications.MobileNetV2(
            weights=None, input_shape=(32, 32, 3), classes=CLASSES
        )
        for layer in model.layers:
            if hasattr(layer, "kernel_regularizer") and penalize:
                layer.kernel_regularizer = l2
                layer.kernel.regularizer = l2
        return model
    elif name == "transformer":
        x = layers.Embedding(1_000, 64)(x)
        for _ in range(2):
            y = layers.MultiHeadAttention(4, 16, kernel_regularizer=l2)(x, x)
            x = layers.LayerNormalization()(layers.Add()([x, y]))
            y = dense(64)(dense(256, "gelu")(x))
            x = layers.LayerNormalization()(layers.Add()([x, y]))
        x = layers.GlobalAveragePooling1D()(x)
    elif name == "lstm":
        x = layers.LSTM(64, kernel_regularizer=l2)(x)
    elif name == "embedding bag":
        x = layers.GlobalAveragePooling1D()(layers.Embedding(100_000, 32)(x))
    return keras.Model(inputs, dense(CLASSES)(x))


def make_tfreg(name: str, compile: str, penalize: bool = True) -> Callable[[], int]:
    """Returns a function that trains an epoch and returns its steps."""
    import tfreg

    x, y = make_data(name)
    l2 = tfreg.l2_regularizer(2 * L2) if penalize else None
    if name.startswith("mlp"):
        dropout = 0.5 if "dropout" in name else 0.0
        widths = [128, CLASSES]
        model = tfreg.models.MLP(widths, dropout=dropout, kernel_regularizer=l2)
    elif name.startswith("lenet"):
        model = tfreg.models.CNN(CLASSES, kernel_regularizer=l2)
    else:
        model = make_keras(name, penalize)
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, loss, tfreg.optimizers.adam(RATE))
    loop = tfreg.Loop(step, tfreg.data.Split(x, y), SHAPES[name][0], compile=compile)
    epochs = iter(range(2**31))

    def train() -> int:
        loop.train(next(epochs))
        return loop.steps_per_epoch

    return train


def make_fit(name: str, jit: bool, steps: int) -> Callable[[], int]:
    """Returns Keras's fit, likewise."""
    import keras

    x, y = make_data(name)
    model = make_keras(name)
    model.compile(
        keras.optimizers.Adam(RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **({"jit_compile": True} if jit else {}),
        steps_per_execution=steps,
    )

    def train() -> int:
        model.fit(x, y, SHAPES[name][0], verbose=0)
        return -(-len(y) // SHAPES[name][0])

    return train


def make_torch(name: str) -> Callable[[], int]:
    """Returns PyTorch's eager loop, L2 as a penalty of the loss."""
    import torch
    from torch import nn

    x, y = make_data(name)
    size = SHAPES[name][0]
    layers = {
        "mlp": lambda: nn.Sequential(
            nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, CLASSES)
        ),
        "lenet": lambda: nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
            nn.Linear(84, CLASSES),
        ),
        "resnet": lambda: _make_torch_resnet(nn),
    }
    model = layers["lenet" if name.startswith("lenet") else name]()
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    x = torch.tensor(np.moveaxis(x, -1, 1) if x.ndim == 4 else x)
    y = torch.tensor(y.astype(np.int64))
    kernels = [p for p in model.parameters() if p.ndim > 1]

    def train() -> int:
        order = torch.randperm(len(y))
        for start in range(0, len(y), size):
            rows = order[start : start + size]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            (loss + L2 * sum((k**2).sum() for k in kernels)).backward()
            optimizer.step()
        return -(-len(y) // size)

    return train


def _make_torch_resnet(nn):  # noqa: ANN001, ANN202
    class Block(nn.Module):
        def __init__(self, before, filters, strides):
            super().__init__()
            conv, norm = nn.Conv2d, nn.BatchNorm2d
            self.main = nn.Sequential(
                conv(before, filters, 3, strides, 1, bias=False),
                *(norm(filters), nn.ReLU()),
                *(conv(filters, filters, 3, 1, 1, bias=False), norm(filters)),
            )
            self.short = conv(before, filters, 1, strides, bias=False)

        def forward(self, x):
            return nn.functional.relu(self.main(x) + self.short(x))

    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)),
    )


def make_jax(name: str, penalize: bool = True) -> Callable[[], int]:
    """Returns a scan of JAX with Optax over an epoch, for the MLP."""
    import jax
    from jax import numpy as jnp

    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    params = [
        (jax.random.normal(k, (m, n)) * m**-0.5, jnp.zeros(n))
        for k, m, n in zip(keys, (784, 128), (128, CLASSES), strict=False)
    ]

    def forward(params, x):
        (w0, b0), (w1, b1) = params
        return jax.nn.relu(x @ w0 + b0) @ w1 + b1

    size, l2 = SHAPES[name][0], L2 if penalize else 0.0
    return gpu_peers.scan(forward, params, make_data(name), size, l2)


MAKERS = {
    "tfreg": lambda name: make_tfreg(name, "auto"),
    "xla": lambda name: make_tfreg(name, "xla"),
    "graph": lambda name: make_tfreg(name, "graph"),
    "tfreg, no penalty": lambda name: make_tfreg(name, "auto", False),
    "fit": lambda name: make_fit(name, False, 1),
    "fit jit": lambda name: make_fit(name, True, 1),
    "fit 16": lambda name: make_fit(name, False, 16),
    "fit jit 16": lambda name: make_fit(name, True, 16),
    "torch": make_torch,
    "jax": make_jax,
    "jax, no penalty": lambda name: make_jax(name, False),
}
ONLY = {
    "torch": ("mlp", "lenet 32", "lenet", "resnet"),
    "jax": ("mlp",),
    "jax, no penalty": ("mlp",),
    "tfreg, no penalty": ("mlp",),
}


def serve(way: str, name: str, seconds: float, pipe) -> None:  # noqa: ANN001
    """Compiles, then measures a turn for each message; sends steps a second."""
    began = time.perf_counter()
    try:
        train = MAKERS[way](name)
        train()
    except ImportError:
        pipe.send(None)
        return
    pipe.send(time.perf_counter() - began)
    train()  # A block is compiled after the first 500 steps.
    while pipe.recv():
        num_steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            num_steps += train()
        pipe.send(num_steps / (time.perf_counter() - began))


def measure(name: str, ways: Sequence[str]) -> dict[str, list[float]]:
    """Returns way -> the seconds of its first epoch, then a rate for each turn."""
    context, pipes = multiprocessing.get_context("spawn"), {}
    rates: dict[str, list[float]] = {}
    for way in ways:
        if name not in ONLY.get(way, SHAPES):
            continue
        pipe, other = context.Pipe()
        args = (way, name, _SECONDS.value, other)
        context.Process(target=serve, args=args, daemon=True).start()
        first = pipe.recv()  # One after another: each compiles alone.
        if first is not None:
            pipes[way], rates[way] = pipe, [first]
    for turn in range(_TURNS.value):
        for way in reversed(pipes) if turn % 2 else pipes:
            pipes[way].send(True)
            rates[way].append(pipes[way].recv())
    for pipe in pipes.values():
        pipe.send(False)
    return rates


def divide(rates: Sequence[float], others: Sequence[float]) -> float:
    """Returns the median of the ratios, each of one turn."""
    return statistics.median(a / b for a, b in zip(rates, others, strict=True))


def print_row(name: str, rates: dict[str, list[float]]) -> None:
    """Prints the steps a second, and tfreg's ratio to each way."""
    turns = {way: values[1:] for way, values in rates.items()}
    fits = [way for way in turns if way.startswith("fit")]
    best = max(fits, key=lambda way: statistics.median(turns[way]), default=None)
    if best is not None:
        turns[BEST] = turns[best]
    ours = turns.get("tfreg", next(iter(turns.values())))
    cells = [
        f"{way} {statistics.median(values):,.1f} ({divide(ours, values):.2f})"
        for way, values in turns.items()
    ]
    starts = [
        f"{way} {rates[way][0]:.1f} s" for way in ("tfreg", "fit") if way in rates
    ]
    print(f"| {name} | " + " | ".join(cells) + f" | {best}; {', '.join(starts)} |")


def main(_: list[str]) -> None:
    """Prints a table: a row for each model."""
    unknown = {*(_MODELS.value or ())} - {*SHAPES} | {*(_WAYS.value or ())} - {*MAKERS}
    if unknown:
        sys.exit(
            f"error: unknown {', '.join(sorted(unknown))}: choose of "
            + ", ".join([*SHAPES, *MAKERS])
        )
    cores = len(os.sched_getaffinity(0))
    print(
        f"`{shlex.join(['python', *sys.argv])}`, {cores} CPU cores; steps a second, "
        "the median of the turns, and tfreg's ratio to it\n"
    )
    for name in _MODELS.value or SHAPES:
        print_row(name, measure(name, _WAYS.value or list(MAKERS)))
        sys.stdout.flush()


if __name__ == "__main__":
    app.run(main)
