"""Terms: a regularizer bound to variables, evaluated on each call.

    term = tfreg.get_default_store().add_term("w", tfreg.l2_regularizer(1e-4), [w])
    term.name  # w/Regularizer/l2_regularizer
    term()  # the penalty of the current w, under the caller's tape

The trap: a penalty computed eagerly when the model is built is a constant without
gradient.
"""

import dataclasses
import functools
import itertools
import weakref
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow

Regularizer = Callable[[tf.Tensor], tf.Tensor | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """A regularizer bound to variables; a call evaluates the penalty.

    It is evaluated under the caller's tape and in the caller's graph. The variables own
    the term, which has only weak references to them: it is deleted with its model.
    """

    name: str
    regularizer: Regularizer
    references: tuple[weakref.ref, ...]
    number: int = dataclasses.field(default_factory=itertools.count().__next__)

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables that this term penalizes."""
        return [v for v in (ref() for ref in self.references) if v is not None]

    def __call__(self, only: Container[int] | None = None) -> tf.Tensor | None:
        """Returns the penalty, a scalar, or None if the regularizer returns None.

        Frozen variables don't count, as in Keras.

        Args:
            only: ids of the variables to count; None for all.

        Raises:
            ValueError: the regularizer's penalty isn't a scalar.
        """
        chosen = [
            v
            for v in self.variables
            if (only is None or id(v) in only) and not is_frozen(v)
        ]
        return apply_each(self.regularizer, chosen, self.name)


def bind(
    name: str,
    regularizer: Regularizer,
    variables: Sequence[tf.Variable],
    bind_copy: Callable[[tf.Variable], Any],
) -> Term:
    """Returns a new term that its variables own.

    Args:
        name: name of the term.
        regularizer: callable, tensor -> scalar tensor or None.
        variables: the owners of the term.
        bind_copy: called with each deep copy of a variable, to create a term for it.
    """
    term = Term(name, regularizer, tuple(weakref.ref(v) for v in variables))
    for variable in variables:
        variable._tfreg_terms = (*get_terms(variable), term)
        _watch_copies(variable, bind_copy)
    return term


def _watch_copies(variable: tf.Variable, bind_copy: Callable) -> None:
    # copy.deepcopy doesn't copy the attributes of a variable.
    if hasattr(type(variable), "__deepcopy__"):
        binders = getattr(variable, "_tfreg_binders", ())
        variable._tfreg_binders = (*binders, bind_copy)
        reference = weakref.ref(variable)
        variable.__deepcopy__ = functools.partial(_copy, reference)
        variable.__reduce_ex__ = functools.partial(_refuse_pickle, reference)


def _copy(reference: Callable[[], Any], memo: dict) -> tf.Variable:
    variable = reference()
    copied = type(variable).__deepcopy__(variable, memo)
    copied._tfreg_is_frozen = is_frozen(variable)
    for bind_copy in variable._tfreg_binders:
        bind_copy(copied)
    return copied


def _refuse_pickle(reference: Callable[[], Any], protocol: Any) -> None:
    raise TypeError(
        "a variable with penalties must not be pickled, got "
        f"{reference().name}: its penalties would be lost, so save a tf.train."
        "Checkpoint, or pickle variable.numpy()"
    )


def get_terms(variable: Any) -> tuple[Term, ...]:
    """Returns the terms of a variable, in order of creation."""
    return getattr(variable, "_tfreg_terms", ())


def set_trainable(variable: tf.Variable, trainable: bool) -> None:
    """Freezes or unfreezes a variable; one created untrainable doesn't change."""
    if not trainable and variable.trainable:
        variable._tfreg_is_frozen = True
        _tensorflow.set_trainable(variable, False)
    elif trainable and is_frozen(variable):
        variable._tfreg_is_frozen = False
        _tensorflow.set_trainable(variable, True)


def is_frozen(variable: Any) -> bool:
    """Returns whether a trainable variable has been frozen.

    A variable created untrainable, for example by TF1's
    `get_variable(trainable=False)`, isn't frozen: its penalty counts.
    """
    if isinstance(variable, tf.Variable):
        return getattr(variable, "_tfreg_is_frozen", False)
    return getattr(variable, "trainable", True) is False  # A Keras variable.


@dataclasses.dataclass(frozen=True, eq=False)
class Penalty:
    """The value of one regularization loss.

    Attributes:
        name: name of the loss.
        value: floating scalar.
        per_example: whether it is a mean over this replica's examples. If not, it is
            the same on every replica and counts once.
        is_term: whether it is the value of a term.
    """

    name: str
    value: tf.Tensor
    per_example: bool
    is_term: bool = False


def apply_each(
    regularizer: Regularizer, weights: Iterable[Any], name: str
) -> tf.Tensor | None:
    """Returns the sum of a regularizer's penalties, None if all are None.

    Args:
        regularizer: called with each of the weights.
        weights: variables or floating tensors of any shape.
        name: name of the weights, for the error message.

    Raises:
        ValueError: a penalty isn't a scalar.
        TypeError: a penalty is a function, as from a factory that wasn't called.
    """
    penalties = []
    for weight in weights:
        # A Keras variable's dtype is a str, with which slim's regularizers fail.
        foreign = is_variable(weight) and not isinstance(weight, tf.Variable)
        penalty = regularizer(tf.convert_to_tensor(weight) if foreign else weight)
        if penalty is None:
            continue
        if callable(penalty):
            raise TypeError(
                f"the penalty of {name} must be a scalar, got a function from "
                f"{regularizer!r}: call it first, as in l2_regularizer(1e-4)"
            )
        penalty = tf.convert_to_tensor(penalty)
        if penalty.shape.rank not in (0, None):
            raise ValueError(
                f"the penalty of {name} must be a scalar, got rank "
                f"{penalty.shape.rank} from {regularizer!r}: return a sum"
            )
        penalties.append(penalty)
    return add_up(penalties)


def measure_activity(regularizer: Regularizer, outputs: tf.Tensor) -> tf.Tensor | None:
    """Returns the penalty of outputs `[batch, ...]`, divided by the batch size.

    The penalty of a RaggedTensor is that of its flat values.
    """
    ragged = isinstance(outputs, tf.RaggedTensor)
    num_examples = outputs.nrows() if ragged else tf.shape(outputs)[0]
    outputs = outputs.flat_values if ragged else outputs
    half = outputs.dtype.size < 4
    wide = tf.cast(outputs, tf.float32) if half else outputs
    penalty = regularizer(wide)
    if penalty is None:
        return None
    penalty = tf.convert_to_tensor(penalty, dtype_hint=wide.dtype)
    return tf.math.divide_no_nan(penalty, tf.cast(num_examples, penalty.dtype))


def add_up(penalties: Sequence[Any]) -> tf.Tensor | None:
    """Returns the sum of scalars, None for an empty sequence.

    Returns:
        A scalar of their dtype; if the dtypes differ, of the widest and at least
        float32. float16 and bfloat16 are summed in float32.
    """
    if not penalties:
        return None
    penalties = [tf.convert_to_tensor(penalty) for penalty in penalties]
    dtypes = {penalty.dtype for penalty in penalties}
    widest = max([tf.float32, *dtypes], key=lambda dtype: dtype.size)
    total = tf.add_n([tf.cast(penalty, widest) for penalty in penalties])
    return tf.cast(total, dtypes.pop()) if len(dtypes) == 1 else total


def is_variable(weight: Any) -> bool:
    """Returns whether a value is a variable of TensorFlow, a strategy or Keras."""
    # A Keras optimizer, which a compiled model holds, has an `assign` too.
    return hasattr(weight, "assign") and hasattr(weight, "shape")


def get_name(regularizer: Regularizer) -> str:
    """Returns the name of a regularizer in the names of terms."""
    name = getattr(regularizer, "__name__", getattr(regularizer, "name", None))
    return str(name or type(regularizer).__name__).strip("<>")
