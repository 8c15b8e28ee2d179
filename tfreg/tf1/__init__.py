"""TF1's API on tfreg's store, for eager code, `tf.function` and replicas.

    net = tf1.Model(forward)  # a function written for TF1
    train_step = tf1.create_train_op(total_loss, optimizer)
    loss = tf.function(train_step)(x, y)

`docs/porting.md` lists the replacement of each name of TF1 and contrib.
"""

from tfreg.collections import get_all_collection_keys, get_collection_ref
from tfreg.collections.store import GraphKeys
from tfreg.regularizers import (
    l1_l2_regularizer,
    l1_regularizer,
    l2_regularizer,
    no_regularizer,
    sum_regularizer,
)
from tfreg.tf1 import core_layers, layers, losses, metrics, nn, rnn_cell
from tfreg.tf1.arg_scopes import (
    add_arg_scope,
    arg_scope,
    arg_scoped_arguments,
    current_arg_scope,
    has_arg_scope,
)
from tfreg.tf1.collecting import (
    add_to_collection,
    add_to_collections,
    apply_regularization,
    clear_collection,
    get_collection,
    get_or_create_global_step,
)
from tfreg.tf1.initializers import variance_scaling_initializer, xavier_initializer
from tfreg.tf1.plain_variables import ExponentialMovingAverage, Variable
from tfreg.tf1.saver import restore, save
from tfreg.tf1.slim_variables import model_variable, variable
from tfreg.tf1.training import create_train_op, optimize_loss
from tfreg.tf1.variable_scopes import (
    AUTO_REUSE,
    VariableScope,
    get_variable_scope,
    variable_scope,
)
from tfreg.tf1.variables import (
    Model,
    VariableStore,
    get_variable,
    global_variables,
    model_variables,
    trainable_variables,
)

__all__ = [
    "AUTO_REUSE",
    "ExponentialMovingAverage",
    "GraphKeys",
    "Model",
    "Variable",
    "VariableScope",
    "VariableStore",
    "add_arg_scope",
    "add_to_collection",
    "add_to_collections",
    "apply_regularization",
    "arg_scope",
    "arg_scoped_arguments",
    "clear_collection",
    "core_layers",
    "create_train_op",
    "current_arg_scope",
    "get_all_collection_keys",
    "get_collection",
    "get_collection_ref",
    "get_or_create_global_step",
    "get_variable",
    "get_variable_scope",
    "global_variables",
    "has_arg_scope",
    "l1_l2_regularizer",
    "l1_regularizer",
    "l2_regularizer",
    "layers",
    "losses",
    "metrics",
    "model_variable",
    "model_variables",
    "nn",
    "no_regularizer",
    "optimize_loss",
    "restore",
    "rnn_cell",
    "save",
    "sum_regularizer",
    "trainable_variables",
    "variable",
    "variable_scope",
    "variance_scaling_initializer",
    "xavier_initializer",
]
