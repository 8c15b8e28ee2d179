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
    parse_single_sequence_example parse_tensor polygamma py_func python_io qr
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

# Arguments that only TF1's version of a function has.
ARGUMENTS = {
    "keep_dims": r"tf\.(reduce_\w+|count_nonzero|math\.reduce_\w+|norm|nn\.\w+)",
    "reduction_indices": r"tf\.(reduce_\w+|count_nonzero|math\.reduce_\w+)",
    "dimension": r"tf\.(argmax|argmin|math\.argm\w+)",
    "dim": r"tf\.(expand_dims|nn\.(l2_normalize|softmax|log_softmax|softmax_cross\w+))",
    "squeeze_dims": r"tf\.squeeze",
    "concat_dim": r"tf\.concat",
    "keep_prob": r"tf\.nn\.dropout",
    "filter": r"tf\.nn\.(conv\w+|depthwise_conv2d|separable_conv2d)",
    "value": r"tf\.nn\.(max_pool|avg_pool)",
    "partition_strategy": r"tf\.nn\.(embedding_lookup\w*|nce_loss|sampled_softmax_\w+)",
    "default_name": r"tf\.name_scope",
}
