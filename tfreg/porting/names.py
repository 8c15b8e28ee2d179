"""Maps TF1's names to tfreg's, and to advice for those to port by hand.

    names.TABLE[names.normalize("tf.contrib.slim.flatten")].target  # tf1.layers.flatten
    names.find_advice("tf.placeholder")

Names are in normal form: `tf.` for tensorflow and tensorflow.compat.v1, `contrib.` for
tf.contrib.layers, tf.contrib.framework, tf.contrib.slim and tf_slim.
"""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Entry:
    """The replacement of a TF1 name.

    Attributes:
        target: the new name, dotted; its first part is tf1 or tfreg.
        arguments: TF1's argument names in order; empty if they are the same.
        dropped: arguments without meaning in TensorFlow 2.
        refused: arguments that tfreg doesn't have.
        renamed: pairs of an old and a new name.
        by_keyword: whether the order changed, so that keywords are needed.
    """

    target: str
    arguments: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    renamed: tuple[tuple[str, str], ...] = ()
    by_keyword: bool = False


# Name, target, TF1's arguments in order; -: dropped, !: by hand, a>b: renamed, *: all
# by keyword, &: the collections of a metric.
_CHANGED = """
tf.variable_scope tf1.variable_scope name_or_scope default_name values initializer \
    regularizer -caching_device -partitioner custom_getter reuse dtype -use_resource \
    constraint -auxiliary_name_scope
tf.get_variable tf1.get_variable name shape dtype initializer regularizer trainable \
    collections -caching_device -partitioner -validate_shape -use_resource \
    custom_getter constraint -synchronization -aggregation
contrib.variable tf1.variable name shape dtype initializer regularizer trainable \
    collections -caching_device -device -partitioner custom_getter -use_resource \
    -synchronization -aggregation
contrib.model_variable tf1.model_variable name shape dtype initializer regularizer \
    trainable collections -caching_device -device -partitioner custom_getter \
    -use_resource -synchronization -aggregation
tf.get_collection tf1.get_collection key scope key>name
tf.get_collection_ref tf1.get_collection_ref key key>name
tf.trainable_variables tf1.trainable_variables scope
tf.global_variables tf1.global_variables scope
contrib.get_trainable_variables tf1.trainable_variables scope !suffix
contrib.get_variables tf1.global_variables scope !suffix !collection
contrib.get_model_variables tf1.model_variables scope !suffix
tf.model_variables tf1.model_variables scope
tf.train.get_or_create_global_step tf1.get_or_create_global_step -graph
tf.train.create_global_step tf1.get_or_create_global_step -graph
tf.train.get_global_step tf1.get_or_create_global_step -graph
contrib.get_or_create_global_step tf1.get_or_create_global_step -graph
contrib.create_global_step tf1.get_or_create_global_step -graph
contrib.get_global_step tf1.get_or_create_global_step -graph
contrib.l1_regularizer tfreg.l1_regularizer scale -scope
contrib.l2_regularizer tfreg.l2_regularizer scale -scope
contrib.l1_l2_regularizer tfreg.l1_l2_regularizer scale_l1 scale_l2 -scope
contrib.sum_regularizer tfreg.sum_regularizer regularizer_list -scope
contrib.losses.absolute_difference tf1.losses.absolute_difference * \
    predictions labels weights scope
contrib.losses.sigmoid_cross_entropy tf1.losses.sigmoid_cross_entropy * \
    logits multi_class_labels weights label_smoothing scope
contrib.losses.softmax_cross_entropy tf1.losses.softmax_cross_entropy * \
    logits onehot_labels weights label_smoothing scope
contrib.losses.sparse_softmax_cross_entropy tf1.losses.sparse_softmax_cross_entropy * \
    logits labels weights scope
contrib.losses.log_loss tf1.losses.log_loss * predictions labels weights epsilon scope
contrib.losses.hinge_loss tf1.losses.hinge_loss * logits labels scope
contrib.losses.mean_squared_error tf1.losses.mean_squared_error * \
    predictions labels weights scope
contrib.losses.cosine_distance tf1.losses.cosine_distance * \
    predictions labels axis weights scope dim dim>axis
tf.losses.cosine_distance tf1.losses.cosine_distance labels predictions axis weights \
    scope loss_collection reduction dim dim>axis
contrib.convolution2d tf1.layers.conv2d
contrib.convolution2d_transpose tf1.layers.conv2d_transpose
contrib.separable_convolution2d tf1.layers.separable_conv2d
contrib.batch_norm tf1.layers.batch_norm inputs decay center scale epsilon \
    activation_fn param_initializers param_regularizers updates_collections \
    is_training reuse variables_collections outputs_collections trainable \
    !batch_weights fused data_format !zero_debias_moving_mean scope !renorm \
    !renorm_clipping -renorm_decay !adjustment
contrib.utils.convert_collection_to_dict tf1.layers.convert_collection_to_dict \
    collection clear_collection
contrib.utils.collect_named_outputs tf1.layers.collect_named_outputs
contrib.utils.get_variable_collections tf1.layers.get_variable_collections
contrib.utils.append_tensor_alias tf1.layers.append_tensor_alias tensor alias
contrib.utils.last_dimension tf1.layers.last_dimension shape min_rank
contrib.xavier_initializer_conv2d tf1.xavier_initializer uniform seed dtype
tf.metrics.mean tf1.metrics.mean values weights & name
contrib.metrics.streaming_mean tf1.metrics.mean values weights & name
tf.metrics.auc tf1.metrics.auc labels predictions weights num_thresholds & !curve name \
    !summation_method !thresholds
contrib.metrics.streaming_auc tf1.metrics.auc * predictions labels weights \
    num_thresholds & !curve name
tf.metrics.mean_iou tf1.metrics.mean_iou labels predictions num_classes weights & name
contrib.metrics.streaming_mean_iou tf1.metrics.mean_iou * predictions labels \
    num_classes weights & name
tf.layers.dense tf1.core_layers.dense inputs units activation use_bias \
    kernel_initializer bias_initializer kernel_regularizer bias_regularizer \
    activity_regularizer kernel_constraint bias_constraint trainable name reuse
tf.layers.flatten tf1.core_layers.flatten inputs name !data_format
tf.layers.batch_normalization tf1.core_layers.batch_normalization inputs axis \
    momentum epsilon center scale beta_initializer gamma_initializer \
    moving_mean_initializer moving_variance_initializer beta_regularizer \
    gamma_regularizer beta_constraint gamma_constraint training trainable name \
    reuse !renorm !renorm_clipping -renorm_momentum fused !virtual_batch_size \
    !adjustment
"""

_CELLS = """RNNCell BasicRNNCell GRUCell BasicLSTMCell LSTMCell LSTMStateTuple
    MultiRNNCell ResidualWrapper DropoutWrapper"""

# Names that keep their arguments: (from, to): names.
_SAME = {
    ("tf", "tf1"): """add_to_collection add_to_collections GraphKeys
        get_variable_scope AUTO_REUSE no_regularizer""",
    ("tf.get_default_graph()", "tf1"): """add_to_collection add_to_collections
        get_collection get_collection_ref clear_collection""",
    ("tf.losses", "tf1.losses"): """absolute_difference hinge_loss huber_loss log_loss
        mean_pairwise_squared_error mean_squared_error sigmoid_cross_entropy
        softmax_cross_entropy sparse_softmax_cross_entropy compute_weighted_loss
        Reduction add_loss get_losses get_regularization_losses get_regularization_loss
        get_total_loss""",
    ("contrib.metrics", "tf1.metrics"): "aggregate_metric_map aggregate_metrics",
    ("contrib.losses", "tf1.losses"): """compute_weighted_loss add_loss get_losses
        get_regularization_losses get_total_loss""",
    ("contrib", "tf1.layers"): """fully_connected linear relu relu6 conv2d
        conv2d_transpose separable_conv2d max_pool2d avg_pool2d dropout flatten bias_add
        one_hot_encoding softmax repeat stack layer_norm instance_norm group_norm""",
    ("contrib", "tf1"): """arg_scope add_arg_scope has_arg_scope current_arg_scope
        arg_scoped_arguments xavier_initializer variance_scaling_initializer""",
    ("contrib", "tfreg"): "apply_regularization",
    ("tf.layers", "tf1.core_layers"): """max_pooling2d average_pooling2d dropout conv1d
        conv2d conv3d conv2d_transpose separable_conv2d""",
    ("tf.nn.rnn_cell", "tf1.rnn_cell"): _CELLS,
    ("tf.contrib.rnn", "tf1.rnn_cell"): _CELLS,
    ("tf.nn", "tf1.nn"): "dynamic_rnn bidirectional_dynamic_rnn static_rnn lrn",
    ("tf.contrib.rnn", "tf1.nn"): "static_rnn",
}

# Streaming metrics of labels and predictions; contrib has the predictions first.
_METRICS = """accuracy mean_absolute_error mean_squared_error precision recall
    root_mean_squared_error"""

# What has to be ported by hand: a regular expression for the full name, and advice.
_BY_HAND = [
    (r"tf\.(sparse_)?placeholder", "make it an argument of the function that used it"),
    (
        r"tf\.placeholder_with_default",
        "it is its default now: make it an argument of the function that used it",
    ),
    (
        r"tf\.((Interactive)?Session|train\.(Monitored|Singular)\w*)",
        "call the step, a tf.function, once a batch",
    ),
    (
        r"tf\.(Interactive)?Session\(\)\.run",
        "call the function that computes it, with the batch as arguments",
    ),
    (
        r"tf\.(get_default_session|ConfigProto|Graph\w*Options|GPUOptions"
        r"|OptimizerOptions|Run\w+|container|(get|delete)_session_\w+|LogMessage"
        r"|SessionLog)",
        "leave it out: there is no session",
    ),
    (
        r"tf\.(disable|enable)_(v2_\w+|eager_execution|control_flow_v2"
        r"|resource_variables|tensor_equality)",
        "leave it out: tfreg runs in TensorFlow 2",
    ),
    (
        r"tf\.((get_)?local_variables?|all_variables|report_uninitialized_variables"
        r"|assert_variables_initialized|is_variable_initialized|VariableScope)",
        "write the model's variables, net.variables",
    ),
    (
        r"tf\.(MetaGraphDef|graph_util\.(?!import_graph_def)\w+)",
        "write tf.saved_model.save(module, path), which needs no frozen graph",
    ),
    (r"tf\.add_check_numerics_ops", "write tf.debugging.enable_check_numerics()"),
    (
        r"tf\.metrics\.[a-z]\w*|contrib\.metrics\.streaming_\w+",
        "write tf.keras.metrics, or the mean of the batches",
    ),
    (r"tf\.data\.(make_\w+_iterator|Iterator\.\w+)", "write for x, y in dataset"),
    (
        r"tf\.train\.(init_from_checkpoint|warm_start)"
        r"|contrib\.(assign_from_checkpoint\w*|get_variables_to_restore)",
        "write tf1.restore(path, net)",
    ),
    (r"tf\.contrib\.opt\.\w*W\w*", "write tfreg.optimizers.adamw"),
    (r"tf\.mixed_precision", "pass precision to tfreg.Step"),
    (
        r"tf\.((\w+_)?variables|tables)_initializer|tf\.initialize_\w+"
        r"|tf\.initializers\.((\w+_)?variables|tables_initializer)",
        "leave it out: variables are initialized when they are created",
    ),
    (r"tf\.get_default_graph(\(\))?(\..*)?", "leave it out: there is no graph"),
    (r"tf\.reset_default_graph", "write `with tf1.VariableStore().as_default():`"),
    (r"tf\.Graph", "write tf1.Model(forward)"),
    (
        r"tf\.train\.(\w*batch(_join)?|\w*input_producer|\w*queue_runners?|QueueRunner)"
        r"|tf\.(\w*Queue|\w*Reader\w*|QueueBase|\w*ConditionalAccumulator\w*"
        r"|count_up_to)|tf\.train\.(limit_epochs|match_filenames_once)",
        "read the data with tf.data",
    ),
    (r"tf\.train\.Coordinator", "leave it out: tf.data needs no threads"),
    (
        r"tf\.train\.(Saver|SaverDef|(ex|im)port_meta_graph|\w+_checkpoint_state\w*)",
        "write tf1.save(path, net) and tf1.restore(path, net)",
    ),
    (
        r"tf\.train\.(Supervisor|Scaffold|\w+Hook|Session\w+|\w+SessionCreator"
        r"|SyncReplicas\w+|\w+Listener|\w*Looper\w*|basic_train_loop|SecondOrStepTimer"
        r"|Server|replica_device_setter|VocabInfo|assert_global_step)",
        "write the loop over the batches around the step, or use tfreg.Loop",
    ),
    (
        r"tf\.train\.\w*Optimizer\(\)\.(compute|apply)_gradients",
        "write train_step = tf1.create_train_op(loss_fn, optimizer), which does both; "
        "for towers, strategy.run(train_step, batch)",
    ),
    (r"tf\.gradients", "write tf.GradientTape, or tf1.create_train_op"),
    (
        r"tf\.nn\.(rnn_cell\.\w+|static_\w*rnn|raw_rnn)",
        "write it with tf1.rnn_cell, tf1.nn.dynamic_rnn or tf1.nn.static_rnn",
    ),
    (
        r"tf\.estimator\.(?!ModeKeys).*",
        "write a function that returns the loss, and tf1.create_train_op",
    ),
    (
        r"tf\.GraphKeys\.(ASSET_FILEPATHS|CONCATENATED_VARIABLES|COND_CONTEXT|EVAL_STEP"
        r"|(LOCAL_)?INIT_OP|(LOCAL_)?RESOURCES|QUEUE_RUNNERS|READY_(FOR_LOCAL_INIT_)?OP"
        r"|SAVE\w+|SUMMARY_OP|TRAIN\w+_RESOURCE\w+|TRAIN_OP|VARIABLES|WHILE_CONTEXT)",
        "tfreg has no such key: write a string",
    ),
    (r"tf\.layers\.[A-Z].*", "write the function of tf1.core_layers, or tfreg.layers"),
    (r"tf\.layers\..*", "write it with tf.nn and tf1.get_variable"),
    (r"tf\.make_template", "write tf1.Model(function)"),
    (
        r"tf\.(variable_op_scope|op_scope)",
        "write tf1.variable_scope(name, default_name, values)",
    ),
    (
        r"tf\.\w+_partitioner|tf\.create_partitioned_variables",
        "leave it out: variables aren't partitioned",
    ),
    (r"tf\.moving_average_variables", "keep them in a list of your own"),
    (
        r"tf\.summary\.(FileWriter\w*|merge\w*|Summary)",
        "write tf.summary.create_file_writer",
    ),
    (r"contrib\.learning\.train", "write the loop over the batches around the step"),
    (r"contrib\.(learning|training|evaluation)\..*", "write the loop by hand"),
    (r"contrib\.nets\..*", "port the network's file, too"),
    (r"tf\.contrib\.rnn\..*", "write a subclass of tf1.rnn_cell.RNNCell"),
    (
        r"contrib\.losses\.mean_pairwise_squared_error",
        "tf1.losses.mean_pairwise_squared_error divides by another count: check which "
        "of the numbers you need",
    ),
    (r"(tf\.)?contrib\..*", "tfreg has no counterpart: write it in TensorFlow 2"),
]
BY_HAND = [(re.compile(pattern), advice) for pattern, advice in _BY_HAND]


def read_entry(text: str) -> Entry:
    """Returns the entry for a target and TF1's arguments, written as above."""
    text = text.replace("&", "!metrics_collections -updates_collections")
    target, *words = text.split()
    plain = [word.lstrip("-!") for word in words if word != "*" and ">" not in word]
    pairs = (word.partition(">") for word in words)
    return Entry(
        target,
        tuple(plain),
        frozenset(word[1:] for word in words if word[0] == "-"),
        frozenset(word[1:] for word in words if word[0] == "!"),
        tuple((before, after) for before, _, after in pairs if after),
        "*" in words,
    )


def _read() -> dict[str, Entry]:
    table = {
        f"{source}.{name}": Entry(f"{target}.{name}")
        for (source, target), names in _SAME.items()
        for name in names.split()
    }
    for line in _CHANGED.strip().splitlines():
        name, text = line.split(maxsplit=1)
        table[name] = read_entry(text)
    for metric in _METRICS.split():
        row = f"tf1.metrics.{metric} {{}} weights & name"
        table[f"tf.metrics.{metric}"] = read_entry(row.format("labels predictions"))
        entry = read_entry(row.format("* predictions labels"))
        table[f"contrib.metrics.streaming_{metric}"] = entry
    return table


TABLE = _read()

CREATE_TRAIN_OP = {
    "contrib.learning.create_train_op": read_entry(
        """tf1.create_train_op total_loss optimizer global_step !update_ops
        variables_to_train clip_gradient_norm summarize_gradients -gate_gradients
        -aggregation_method -colocate_gradients_with_ops gradient_multipliers
        check_numerics"""
    ),
    "contrib.training.create_train_op": read_entry(
        """tf1.create_train_op total_loss optimizer global_step !update_ops
        variables_to_train transform_grads_fn summarize_gradients -gate_gradients
        -aggregation_method -colocate_gradients_with_ops check_numerics"""
    ),
    "contrib.optimize_loss": read_entry(
        """tf1.optimize_loss loss global_step learning_rate optimizer
        !gradient_noise_scale gradient_multipliers clip_gradients
        learning_rate_decay_fn !update_ops variables -name -summaries
        -colocate_gradients_with_ops increment_global_step"""
    ),
}


# Substitutions from an imported name to the normal form, applied in order.
_NORMAL = [
    (r"^tf_slim\b", "tensorflow.contrib.slim"),
    # TensorFlow's private modules, which some code imports instead of tf.
    (r"^tensorflow\.python\.ops\.(variable_scope|template)\b", "tf"),
    (r"^tensorflow\.python\.ops\.losses\.(losses|losses_impl|util)\b", "tf.losses"),
    (
        r"^tensorflow\.python\.framework\.ops\b"
        r"(?=\.(add_to_collections?|get_collection(_ref)?|GraphKeys)\b)",
        "tf",
    ),
    (r"^tensorflow(\.compat\.v1)?(?=\.|$)", "tf"),
    (r"^tf\.contrib\.(losses|metrics|training)\b(\.python\.\w+\b)?", r"contrib.\1"),
    (r"^tf\.contrib\.(layers|framework|slim)\b(\.python\b)?", "contrib"),
    (r"^(contrib\.losses)\.loss_ops\b", r"\1"),
    (
        r"^contrib(\.(layers|framework|slim|ops|regularizers|initializers|variables"
        r"|arg_scope))+(?=\.\w)",
        "contrib",
    ),
]
_NORMALIZERS = [(re.compile(pattern), text) for pattern, text in _NORMAL]


def normalize(name: str) -> str:
    """Returns the normal form of a dotted name.

    Args:
        name: as imported, e.g. tensorflow.contrib.slim.conv2d.
    """
    for pattern, text in _NORMALIZERS:
        name = pattern.sub(text, name)
    return name


_PARTS = """layers losses learning training regularizers initializers variables
    framework slim ops utils metrics"""
MODULES = {
    *("tf", "tf.losses", "tf.layers", "tf.nn", "tf.nn.rnn_cell", "tf.train"),
    *("tf.contrib", "tf.contrib.rnn", "contrib"),
    *(f"contrib.{part}" for part in _PARTS.split()),
}


# The values of an estimator's modes.
MODES = {
    "tf.estimator.ModeKeys.TRAIN": "train",
    "tf.estimator.ModeKeys.EVAL": "eval",
    "tf.estimator.ModeKeys.PREDICT": "infer",
}


def find_advice(name: str) -> str | None:
    """Returns the advice for a normal name to port by hand, or None."""
    for pattern, advice in BY_HAND:
        # The result of a call is something else, unless the pattern has parentheses.
        if pattern.fullmatch(name) and ("(" not in name or r"\(" in pattern.pattern):
            return advice
    return None
