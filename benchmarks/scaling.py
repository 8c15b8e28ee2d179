"""Prints what several cards should do, by a model of the all-reduce; measures nothing.

    python benchmarks/scaling.py --bandwidth=300 --latency=10

Each card computes its own batch, and then all add up one buffer of gradients and
statistics in a ring, without overlap: that is what tfreg's Loop does. The trap: a small
model, whose step is over before the cards have answered each other.
"""

import shlex
import sys

from absl import app, flags

_BANDWIDTH = flags.DEFINE_float("bandwidth", 300.0, "GB/s of a card to the next")
_LATENCY = flags.DEFINE_float("latency", 10.0, "microseconds of a hop of the ring")
_CALLS = flags.DEFINE_float("calls", 100.0, "microseconds to call a step's programs")

# Name -> trained numbers, statistics of BatchNorm, milliseconds of a step of one card.
MODELS = {
    "MLP 784-128-10, 32 a card": (101_770, 0, 0.06),
    "ResNet-18 at 32 x 32, 256 a card": (11_173_962, 9_600, 8.4),
    "ResNet-50 at 224 x 224, 256 a card": (25_557_032, 53_120, 150.0),
}


def estimate(num_cards: int, num_bytes: int, milliseconds: float) -> float:
    """Returns the speed of the cards together, in those of one card.

    Args:
        num_cards: 2 or more.
        num_bytes: of the buffer that is added up.
        milliseconds: of a step of one card.

    Source: the ring of Patarasuk and Yuan 2009: 2 (n - 1) hops, each of a n-th part.
    """
    hops = 2 * (num_cards - 1)
    sent = num_bytes / num_cards / (_BANDWIDTH.value * 1e9)
    reduced = hops * (sent + _LATENCY.value * 1e-6)
    alone = milliseconds * 1e-3
    return num_cards * alone / (alone + reduced + _CALLS.value * 1e-6)


def main(_: list[str]) -> None:
    """Prints a row for each model."""
    command = shlex.join(["python", *sys.argv])
    print(
        f"`{command}`: {_BANDWIDTH.value:g} GB/s, {_LATENCY.value:g} us a hop, "
        f"{_CALLS.value:g} us to call a step\n"
    )
    print("| model | step of one card, ms | MB a step | 2 cards | 4 cards | 8 cards |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, (trained, statistics, milliseconds) in MODELS.items():
        num_bytes = 4 * (trained + statistics)
        cells = [f"{estimate(n, num_bytes, milliseconds):.1f} x" for n in (2, 4, 8)]
        size = f"{num_bytes / 1e6:,.1f}"
        print(f"| {name} | {milliseconds:g} | {size} | {' | '.join(cells)} |")


if __name__ == "__main__":
    app.run(main)
