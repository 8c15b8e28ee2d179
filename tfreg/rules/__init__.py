"""Rules that give regularizers to the variables and outputs of layers.

    found = rules.parse("l2(1e-4)@kernel;l1(1e-5)@activity:dense_0")
    rules.apply(found, model)  # of our layers, built or not; or any built tf.Module
    rules.apply("decay(1e-2)@kernel;l2(linear(0.0, 1e-4, 1000))@bias", model)

For whoever writes a loss. Parsing imports no TensorFlow.
"""

from tfreg.rules.applying import apply
from tfreg.rules.texts import (
    COUPLINGS,
    REGULARIZERS,
    SCHEDULES,
    TARGETS,
    Rule,
    make_regularizer,
    make_rules,
    make_schedule,
    parse,
    split_arguments,
    write_schedule,
)

__all__ = [
    "COUPLINGS",
    "REGULARIZERS",
    "SCHEDULES",
    "TARGETS",
    "Rule",
    "apply",
    "make_regularizer",
    "make_rules",
    "make_schedule",
    "parse",
    "split_arguments",
    "write_schedule",
]
