"""Prints what tfreg does on a GPU, beside Keras, JAX and PyTorch, as tables.

    python benchmarks/gpu.py                                # all of it, on the card
    python benchmarks/gpu.py --small --turns=1 --seconds=0.1  # a try on CPUs

Each way has a process of its own, and all of them take turns. The traps: a ratio of two
libraries of which one rounds its products to TF32, so that all do, or none; and a start
that is measured while another program compiles.
"""

import dataclasses
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import gpu_peers
import numpy as np
from absl import app, flags

_PARTS = flags.DEFINE_list("parts", ["speed", "gradients"], "speed, gradients")
_MODELS = flags.DEFINE_list("models", list(gpu_peers.SHAPES), "names of models")
_WAYS = flags.DEFINE_list("ways", None, "names of ways [all that are installed]")
_TURNS = flags.DEFINE_integer("turns", 5, "turns of each way", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 0.3, "least time of a turn", lower_bound=0.01)
_SMALL = flags.DEFINE_bool("small", False, "few and small batches, to try it on CPUs")
_SERVE = flags.DEFINE_string("serve", None, "way and model of this process: internal")

# Way -> precision, compile mode, further options.
OURS = {
    "tfreg": ("tf32", "auto", ()),
    "graph": ("tf32", "graph", ()),
    "deterministic": ("tf32", "auto", ("deterministic",)),
    "mirrored": ("tf32", "auto", ("mirrored",)),
    "float32": ("float32", "auto", ()),
    "bfloat16": ("bfloat16", "auto", ()),
    "float16": ("float16", "auto", ()),
}
PEERS = {
    "Keras fit": lambda name, shape: gpu_peers.make_fit(name, shape, 1),
    "Keras fit 32": lambda name, shape: gpu_peers.make_fit(name, shape, 32),
    "JAX scan": gpu_peers.make_jax,
    "torch compile": gpu_peers.make_torch,
}
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


def get_shape(name: str, small: bool) -> gpu_peers.Shape:
    """Returns the batch size, the shape of an example and the number of batches."""
    shape = gpu_peers.SHAPES[name]
    if not small:
        return shape
    return dataclasses.replace(shape, batch=min(shape.batch, 8), batches=3)


def make_model(name: str):  # noqa: ANN201
    """Returns tfreg's model, L2 on its kernels."""
    import tensorflow as tf

    import tfreg
    from tfreg import layers

    l2 = tfreg.l2_regularizer(2 * gpu_peers.L2)
    if name.startswith("MLP"):
        return tfreg.models.MLP([128, 10], kernel_regularizer=l2, seed=0)
    if name.startswith("LeNet"):
        return tfreg.models.CNN(10, kernel_regularizer=l2, seed=0)

    def conv(filters, size=3, strides=1):
        options = {"use_bias": False, "kernel_regularizer": l2, "seed": 0}
        return layers.Conv2D(filters, size, strides=strides, activation=None, **options)

    class ResNet(tf.Module):
        def __init__(self):
            super().__init__()
            self.stem = [conv(64), layers.BatchNorm()]
            self.blocks, before = [], 64
            for filters, strides in gpu_peers.BLOCKS:
                block = [conv(filters, 3, strides), layers.BatchNorm()]
                block += [conv(filters), layers.BatchNorm()]
                if (before, 1) != (filters, strides):
                    block += [conv(filters, 1, strides), layers.BatchNorm()]
                self.blocks.append(block)
                before = filters
            self.head = layers.Dense(10, activation=None, kernel_regularizer=l2, seed=0)

        def __call__(self, x, training=False):
            first, norm = self.stem
            x = tf.nn.relu(norm(first(x), training=training))
            for conv0, norm0, conv1, norm1, *short in self.blocks:
                y = tf.nn.relu(norm0(conv0(x), training=training))
                y = norm1(conv1(y), training=training)
                if short:
                    x = short[1](short[0](x), training=training)
                x = tf.nn.relu(x + y)
            return self.head(tf.reduce_mean(x, [1, 2]))

    return ResNet()


def make_step(name: str, precision: str):  # noqa: ANN201
    """Returns tfreg's training step."""
    import tfreg

    loss = tfreg.losses.sparse_softmax_cross_entropy
    optimizer = tfreg.optimizers.adam(gpu_peers.RATE)
    return tfreg.Step(make_model(name), loss, optimizer, precision=precision)


def make_tfreg(way: str, name: str, shape: gpu_peers.Shape) -> Callable[[], int]:
    """Returns a function that trains an epoch and returns its steps."""
    import tensorflow as tf

    import tfreg

    precision, mode, options = OURS[way]
    if "deterministic" in options:
        tf.config.experimental.enable_op_determinism()
    strategy = tf.distribute.get_strategy()
    if "mirrored" in options:
        kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
        strategy = tf.distribute.MirroredStrategy([f"{kind}:0"])
    split = tfreg.data.Split(*gpu_peers.make_data(shape))
    with strategy.scope():
        step = make_step(name, precision)
        loop = tfreg.Loop(step, split, shape.batch, compile=mode, strategy=strategy)
    epochs = iter(range(2**31))

    def train() -> int:
        loop.train(next(epochs))
        return loop.steps_per_epoch

    return train


def serve(way: str, name: str) -> None:
    """Compiles, then measures a turn for each line of stdin; prints steps a second."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What libraries print isn't a result.
    shape, began = get_shape(name, _SMALL.value), time.perf_counter()
    try:
        ours = way in OURS
        train = make_tfreg(way, name, shape) if ours else PEERS[way](name, shape)
        train()
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=out)
        return
    start = time.perf_counter() - began
    began, num_steps = time.perf_counter(), 0
    while num_steps < 600 and time.perf_counter() - began < 3.0:
        num_steps += train()  # A block is compiled after the first 500.
    print(json.dumps({"start": start}), file=out)
    for _ in sys.stdin:
        num_steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < _SECONDS.value:
            num_steps += train()
        rate = num_steps / (time.perf_counter() - began)
        print(json.dumps({"rate": rate}), file=out)


def start(way: str, name: str) -> subprocess.Popen:
    """Starts the process of a way."""
    environment = dict(os.environ)
    if way in ("JAX scan", "torch compile"):
        # TensorFlow may have been brought along, with libraries of another CUDA.
        for variable in ("PYTHONPATH", "LD_LIBRARY_PATH", "XLA_FLAGS"):
            environment.pop(variable, None)
    options = [f"--seconds={_SECONDS.value}", *(["--small"] if _SMALL.value else [])]
    return subprocess.Popen(
        [sys.executable, __file__, f"--serve={way}:{name}", *options],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(process: subprocess.Popen) -> dict[str, float]:
    """Returns the next line of a process, {} if it has ended."""
    line = process.stdout.readline() if process.stdout else ""
    return json.loads(line) if line else {}


def measure(name: str) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Returns way -> the seconds of its first epoch, and -> a rate for each turn."""
    ways, alone = _WAYS.value or [*OURS, *PEERS], []
    if name.startswith("ResNet"):  # Their starts are compared.
        alone = [way for way in ways if way in ("tfreg", "Keras fit")]
    processes, starts = {}, {}
    for way in alone:
        processes[way] = start(way, name)
        starts[way] = ask(processes[way])
    others = [way for way in ways if way not in alone]
    processes |= {way: start(way, name) for way in others}
    starts |= {way: ask(processes[way]) for way in others}
    rates: dict[str, list[float]] = {way: [] for way in ways if "start" in starts[way]}
    for turn in range(_TURNS.value):
        for way in reversed(rates) if turn % 2 else rates:
            print(file=processes[way].stdin, flush=True)
            rates[way].append(ask(processes[way])["rate"])
    for process in processes.values():
        process.communicate()
    return {way: starts[way]["start"] for way in rates}, rates


def divide(rates: list[float], others: list[float]) -> str:
    """Returns the median of the ratios, each of one turn."""
    pairs = zip(rates, others, strict=True)
    return f"{statistics.median(a / b for a, b in pairs):.2f}"


def print_speed(name: str) -> None:
    """Prints a row for each way: steps a second, tfreg's ratio to it, its start."""
    starts, rates = measure(name)
    for way, turns in rates.items():
        ratio = divide(rates["tfreg"], turns) if "tfreg" in rates else ""
        cells = f"{statistics.median(turns):,.1f} | {min(turns):,.1f} to "
        print(
            f"| {name} | {way} | {cells}{max(turns):,.1f} | {ratio} "
            f"| {starts[way]:.1f} |",
            flush=True,
        )


def print_gradients(name: str) -> None:
    """Prints the relative error of the data's gradient, by precision and mode."""
    import tensorflow as tf

    import tfreg
    from tfreg.training import batches

    x, y = gpu_peers.make_data(get_shape(name, _SMALL.value))
    size = get_shape(name, _SMALL.value).batch
    batch = batches.Batch(tf.constant(x[:size]), tf.constant(y[:size]))
    found: dict[tuple[str, str], np.ndarray] = {}
    for precision in ("float64", *PRECISIONS):
        for mode in ("graph", "xla") if precision != "float64" else ("graph",):
            with tfreg.Store(seed=0).as_default():
                step = make_step(name, precision)
            step.build(batches.cut(batch, slice(2)))
            device = "CPU:0" if precision == "float64" else None
            run = tf.function(
                lambda step=step: step.compute_gradients(batch).gradients,
                jit_compile=mode == "xla",
            )
            with tf.device(device):
                flat = [g.numpy().ravel().astype(np.float64) for g in run()]
            scale = float(step.loss_scale.scale.numpy()) if step.loss_scale else 1.0
            found[precision, mode] = np.concatenate(flat) / scale
    truth = found.pop(("float64", "graph"))
    for (precision, mode), gradient in found.items():
        error = np.linalg.norm(gradient - truth) / np.linalg.norm(truth)
        print(f"| {name} | {precision} | {mode} | {error:.1e} |", flush=True)


def main(_: list[str]) -> None:
    """Prints the tables."""
    if _SERVE.value:
        serve(*_SERVE.value.split(":"))
        return
    code = (
        "from tfreg.runs import results; import tensorflow as tf; "
        "print(results.describe_device(), tf.__version__, sep=', TensorFlow ')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    command = shlex.join(["python", *sys.argv])
    print(f"`{command}`, {done.stdout.strip()}; TF32 where a way says no other.\n")
    if "speed" in _PARTS.value:
        print("| model | way | steps/s | min to max | tfreg / way | first epoch, s |")
        print("|---|---|---:|---:|---:|---:|")
        for name in _MODELS.value:
            print_speed(name)
    if "gradients" in _PARTS.value:
        print("\n| model | precision | mode | relative error of the gradient |")
        print("|---|---|---|---:|")
        for name in _MODELS.value:
            print_gradients(name)


if __name__ == "__main__":
    app.run(main)
