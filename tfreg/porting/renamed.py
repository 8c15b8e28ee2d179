"""The names that TensorFlow 2 has removed or changed, but tf.compat.v1 keeps.

    "tf.log" in renamed.NAMES  # becomes tf.compat.v1.log

Names are in normal form: `tf.` stands for tensorflow.
"""

# They work in eager code under tf.compat.v1, and TensorFlow 2 doesn't have the name.
_NAMES = """
    AttrValue COMPILER_VERSION CXX11_ABI_FLAG CXX_VERSION Dimension Event
    FixedLenFeature FixedLenSequenceFeature GIT_VERSION GRAPH_DEF_VERSION
    GRAPH_DEF_VERSION_MIN_CONSUMER GRAPH_DEF_VERSION_MIN_PRODUCER GraphDef
    HistogramProto MONOLITHIC_BUILD NameAttrList NoGradient NodeDef
    NotDifferentiable OpError Print QUANTIZED_DTYPES SparseFeature SparseTensorValue
    Summary SummaryMetadata TensorInfo VERSION VarLenFeature accumulate_n angle app
    arg_max arg_min assert_greater_equal assert_integer assert_less_equal
    assert_near assert_negative assert_non_negative assert_non_positive
    assert_none_equal assert_positive assert_proper_iterable assert_rank_at_least
    assert_rank_in assert_same_float_dtype assert_scalar assert_type assign
    assign_add assign_sub batch_gather batch_scatter_update batch_to_space_nd
    betainc bincount ceil check_numerics cholesky cholesky_solve
    clip_by_average_norm colocate_with confusion_matrix conj control_flow_v2_enabled
    convert_to_tensor_or_indexed_slices convert_to_tensor_or_sparse_tensor
    count_nonzero cross cumprod decode_base64 decode_compressed decode_csv
    decode_json_example decode_raw depth_to_space dequantize deserialize_many_sparse
    diag diag_part digamma dimension_at_index dimension_value distributions div
    div_no_nan encode_base64 erf erfc executing_eagerly_outside_functions expm1
    extract_image_patches fake_quant_with_min_max_args
    fake_quant_with_min_max_args_gradient fake_quant_with_min_max_vars
    fake_quant_with_min_max_vars_gradient fake_quant_with_min_max_vars_per_channel
    fake_quant_with_min_max_vars_per_channel_gradient fft fft2d fft3d flags
    floor_div floordiv floormod get_seed gfile global_norm glorot_normal_initializer
    glorot_uniform_initializer ifft ifft2d ifft3d igamma igammac imag
    image.extract_image_patches image.resize_area image.resize_bicubic
    image.resize_bilinear image.resize_image_with_crop_or_pad
    image.resize_image_with_pad image.resize_images image.resize_nearest_neighbor
    image.transpose_image initializers.uniform_unit_scaling invert_permutation
    is_finite is_inf is_nan is_non_decreasing is_numeric_tensor
    is_strictly_increasing lbeta lgamma lin_space load_file_system_library log log1p
    log_sigmoid logging logical_xor manip matching_files matrix_band_part
    matrix_determinant matrix_diag matrix_diag_part matrix_inverse matrix_set_diag
    matrix_solve matrix_solve_ls matrix_transpose matrix_triangular_solve mod
    multinomial nn.avg_pool_v2 nn.conv2d_backprop_filter nn.conv2d_backprop_input
    nn.conv3d_backprop_filter nn.conv3d_backprop_filter_v2
    nn.ctc_beam_search_decoder_v2 nn.ctc_loss_v2 nn.depthwise_conv2d_native
    nn.depthwise_conv2d_native_backprop_filter
    nn.depthwise_conv2d_native_backprop_input nn.fused_batch_norm
    nn.log_uniform_candidate_sampler nn.max_pool_v2 nn.quantized_avg_pool
    nn.quantized_conv2d nn.quantized_max_pool nn.quantized_relu_x nn.relu_layer
    nn.softmax_cross_entropy_with_logits_v2 nn.uniform_candidate_sampler
    nn.xw_plus_b orthogonal_initializer parse_example parse_single_example
    parse_single_sequence_example parse_tensor placeholder_with_default polygamma
    py_func python_io qr
    quantize quantize_v2 quantized_concat random.get_seed random.multinomial
    random.set_random_seed random.stateless_multinomial random_crop random_gamma
    random_normal random_poisson random_shuffle random_uniform read_file real
    reciprocal reduce_join regex_replace resource_loader resource_variables_enabled
    reverse_v2 rint rsqrt scatter_add scatter_div scatter_max scatter_min
    scatter_mul scatter_nd_add scatter_nd_sub scatter_nd_update scatter_sub
    scatter_update segment_max segment_mean segment_min segment_prod segment_sum
    self_adjoint_eig self_adjoint_eigvals serialize_many_sparse serialize_sparse
    serialize_tensor set_random_seed setdiff1d space_to_depth sparse_add
    sparse_concat sparse_fill_empty_rows sparse_mask sparse_matmul sparse_maximum
    sparse_merge sparse_minimum sparse_reduce_max sparse_reduce_max_sparse
    sparse_reduce_sum sparse_reduce_sum_sparse sparse_reorder sparse_reset_shape
    sparse_reshape sparse_retain sparse_segment_mean sparse_segment_sqrt_n
    sparse_segment_sum sparse_slice sparse_softmax sparse_split
    sparse_tensor_dense_matmul sparse_tensor_to_dense sparse_to_dense
    sparse_to_indicator sparse_transpose spectral squared_difference string_join
    string_split string_strip string_to_hash_bucket string_to_hash_bucket_fast
    string_to_hash_bucket_strong string_to_number substr svd tensor_scatter_add
    tensor_scatter_sub tensor_scatter_update to_bfloat16 to_complex128 to_complex64
    to_double to_float to_int32 to_int64 trace train.AdadeltaOptimizer
    train.AdagradDAOptimizer train.AdagradOptimizer train.AdamOptimizer
    train.FtrlOptimizer train.GradientDescentOptimizer train.MomentumOptimizer
    train.NanLossDuringTrainingError train.NewCheckpointReader train.Optimizer
    train.ProximalAdagradOptimizer train.ProximalGradientDescentOptimizer
    train.RMSPropOptimizer train.checkpoint_exists train.cosine_decay
    train.cosine_decay_restarts train.do_quantize_training_on_graphdef
    train.exponential_decay train.get_checkpoint_mtimes train.global_step
    train.inverse_time_decay train.linear_cosine_decay train.natural_exp_decay
    train.noisy_linear_cosine_decay train.piecewise_constant
    train.piecewise_constant_decay train.polynomial_decay train.remove_checkpoint
    train.sdca_fprint train.sdca_optimizer train.sdca_shrink_l1
    train.summary_iterator train.write_graph truncated_normal
    truncated_normal_initializer uniform_unit_scaling_initializer
    unsorted_segment_max unsorted_segment_mean unsorted_segment_min
    unsorted_segment_prod unsorted_segment_sqrt_n unsorted_segment_sum user_ops
    variance_scaling_initializer verify_tensor_all_finite where_v2 wrap_function
    write_file zeta
"""
NAMES = frozenset(f"tf.{name}" for name in _NAMES.split())

# Functions of both, in TF1's form where a call has more arguments by position than the
# number, or one of the keywords; -1 is always, since they compute something else.
_SIGNATURES = """
Variable 2 collections expected_shape use_resource
argmax 2 dimension
argmin 2 dimension
assert_equal 4 data
assert_greater 4 data
assert_less 4 data
assert_rank 4 data summarize
batch_to_space 1 block_size
boolean_mask 2
cond 4 strict fn1 fn2
constant 4 verify_shape
constant_initializer 1 dtype verify_shape
convert_to_tensor 2 preferred_dtype
debugging.assert_all_finite 3 t msg
debugging.assert_equal 4 data
debugging.assert_greater 4 data
debugging.assert_greater_equal 4 data
debugging.assert_less 4 data
debugging.assert_less_equal 4 data
debugging.assert_near 6 data
debugging.assert_negative 3 data
debugging.assert_non_negative 3 data
debugging.assert_non_positive 3 data
debugging.assert_none_equal 3 data
debugging.assert_positive 3 data
debugging.assert_rank 4 data summarize
debugging.assert_rank_at_least 4 data summarize
debugging.assert_rank_in 4 data summarize
debugging.assert_scalar 1
device 1 device_name_or_function
expand_dims 3 dim
gather 3
gather_nd 2
image.crop_and_resize 7 box_ind
image.draw_bounding_boxes -1
image.extract_glimpse 5 uniform_noise
image.resize 4 align_corners
image.sample_distorted_bounding_box 4 seed2
io.decode_csv 4
io.decode_raw 3 bytes
io.parse_example 2
io.parse_single_example 2
io.serialize_many_sparse 1
io.serialize_sparse 1
linalg.norm 5 keep_dims
math.argmax 2 dimension
math.argmin 2 dimension
math.confusion_matrix 3
math.count_nonzero 5 input_tensor reduction_indices keep_dims
math.in_top_k 0
math.log_softmax 3 dim
math.reduce_all 4 reduction_indices keep_dims
math.reduce_any 4 reduction_indices keep_dims
math.reduce_logsumexp 4 reduction_indices keep_dims
math.reduce_max 4 reduction_indices keep_dims
math.reduce_mean 4 reduction_indices keep_dims
math.reduce_min 4 reduction_indices keep_dims
math.reduce_prod 4 reduction_indices keep_dims
math.reduce_sum 4 reduction_indices keep_dims
math.softmax 3 dim
name_scope 1 default_name values
nn.avg_pool 6 value
nn.avg_pool2d 6 value
nn.batch_norm_with_global_normalization 8 t m v
nn.conv1d 5 value use_cudnn_on_gpu
nn.conv2d 5 filter use_cudnn_on_gpu
nn.conv2d_transpose 6 value filter
nn.conv3d 7 filter
nn.conv3d_transpose 6 value filter
nn.convolution 2 filter dilation_rate
nn.crelu 1
nn.ctc_beam_search_decoder 4 merge_repeated
nn.ctc_loss -1
nn.depth_to_space 2
nn.depthwise_conv2d 5 rate
nn.dilation2d 4 filter rates
nn.embedding_lookup 4 partition_strategy validate_indices
nn.embedding_lookup_sparse 4 partition_strategy
nn.erosion2d 1 kernel rates
nn.fractional_avg_pool 5 deterministic seed2
nn.fractional_max_pool 5 deterministic seed2
nn.in_top_k 0
nn.log_softmax 3 dim
nn.max_pool 6 value
nn.max_pool_with_argmax 6 Targmax
nn.moments 3 keep_dims
nn.nce_loss 10 partition_strategy
nn.pool 3 dilation_rate
nn.safe_embedding_lookup_sparse 5 partition_strategy
nn.sampled_softmax_loss 11 partition_strategy
nn.separable_conv2d 6 rate
nn.softmax 3 dim
nn.softmax_cross_entropy_with_logits -1 dim
nn.space_to_batch 1 block_size
nn.space_to_depth 2
nn.sufficient_statistics 5 keep_dims
nn.weighted_cross_entropy_with_logits 4 targets
nn.weighted_moments 3 keep_dims
norm 5 keep_dims
ones_initializer 0 dtype
ones_like 3 tensor optimize
pad 3
random.poisson 0
random_normal_initializer 3 dtype
random_uniform_initializer 3 dtype
reduce_all 4 reduction_indices keep_dims
reduce_any 4 reduction_indices keep_dims
reduce_logsumexp 4 reduction_indices keep_dims
reduce_max 4 reduction_indices keep_dims
reduce_mean 4 reduction_indices keep_dims
reduce_min 4 reduction_indices keep_dims
reduce_prod 4 reduction_indices keep_dims
reduce_sum 4 reduction_indices keep_dims
reverse_sequence 5 seq_dim batch_dim
shape 1
size 1
space_to_batch 1 block_size
sparse.add 3 thresh
sparse.concat 2 expand_nonconcat_dim concat_dim
sparse.reduce_max 3 reduction_axes keep_dims
sparse.reduce_sum 3 reduction_axes keep_dims
sparse.segment_mean 3
sparse.segment_sqrt_n 3
sparse.segment_sum 3
sparse.split 1 keyword_required split_dim
squeeze 3 squeeze_dims
strings.length 1
strings.reduce_join 5 keep_dims reduction_indices
strings.split -1 result_type source
strings.substr 3
strings.to_hash_bucket 3 string_tensor
strings.to_number 3 string_tensor
transpose 2
where 1 x y
while_loop 7 return_same_structure
zeros_initializer 0 dtype
zeros_like 3 tensor optimize
"""


def _read_signatures() -> dict[str, tuple[int, frozenset[str]]]:
    rows = (line.split() for line in _SIGNATURES.strip().splitlines())
    return {f"tf.{name}": (int(n), frozenset(words)) for name, n, *words in rows}


SIGNATURES = _read_signatures()

# TF 0.x's names -> TF1's and TensorFlow 2's.
ANCIENT = {
    "tf.sub": "tf.subtract",
    "tf.mul": "tf.multiply",
    "tf.neg": "tf.negative",
    "tf.pack": "tf.stack",
    "tf.unpack": "tf.unstack",
    "tf.inv": "tf.math.reciprocal",
    "tf.select": "tf.compat.v1.where",
    "tf.complex_abs": "tf.abs",
    "tf.batch_matmul": "tf.matmul",
    "tf.batch_matrix_inverse": "tf.linalg.inv",
    "tf.batch_cholesky": "tf.linalg.cholesky",
    "tf.listdiff": "tf.compat.v1.setdiff1d",
    "tf.image_summary": "tf.compat.v1.summary.image",
    "tf.scalar_summary": "tf.compat.v1.summary.scalar",
    "tf.histogram_summary": "tf.compat.v1.summary.histogram",
    "tf.audio_summary": "tf.compat.v1.summary.audio",
    "tf.merge_summary": "tf.compat.v1.summary.merge",
    "tf.merge_all_summaries": "tf.compat.v1.summary.merge_all",
    "tf.train.SummaryWriter": "tf.compat.v1.summary.FileWriter",
    "tf.initialize_all_variables": "tf.compat.v1.global_variables_initializer",
    "tf.initialize_variables": "tf.compat.v1.variables_initializer",
    "tf.initialize_local_variables": "tf.compat.v1.local_variables_initializer",
}
_INITIALIZERS = """zeros ones constant random_normal random_uniform truncated_normal
    orthogonal variance_scaling"""
# Those of a private module, which slim had as slim.init_ops.
ANCIENT |= {
    f"{module}.{name}_initializer": f"tf.compat.v1.{name}_initializer"
    for module in ("contrib.init_ops", "tf.python.ops.init_ops")
    for name in _INITIALIZERS.split()
}
# Their arguments with another name.
KEYWORDS = {
    "tf.batch_matmul": {"adj_x": "adjoint_a", "adj_y": "adjoint_b"},
    "tf.image_summary": {"tag": "name", "max_images": "max_outputs"},
    "tf.scalar_summary": {"tags": "name", "values": "tensor"},
    "tf.histogram_summary": {"tag": "name"},
}
# TF 0.x's arguments in order, and those of today.
SWAPPED = {
    "tf.concat": ("concat_dim values", "axis values", "values axis"),
    "tf.split": (
        "split_dim num_split value",
        "axis num_or_size_splits value",
        "value num_or_size_splits axis",
    ),
}
# Before TF 1.0 the logits came first; TF1 took keywords only.
LOGITS_FIRST = (
    "tf.nn.softmax_cross_entropy_with_logits",
    "tf.nn.sparse_softmax_cross_entropy_with_logits",
    "tf.nn.sigmoid_cross_entropy_with_logits",
)
