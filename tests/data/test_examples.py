"""Records of `tf.train.Example` without TensorFlow: what TFDS writes is read, and the reverse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from rcodec_jax.data.storage.examples import decode_example, encode_example
from rcodec_jax.errors import UsageError

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
values = st.one_of(st.binary(max_size=300), st.lists(st.integers(0, 2**63 - 1), max_size=5))


def proto_of(features):
    example = tf_example_pb2.Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.extend(value)
    return example


@given(st.dictionaries(names, values, min_size=1, max_size=5))
def test_protocol_buffers_read_what_is_written(features):
    record = encode_example(features)
    assert tf_example_pb2.Example.FromString(record) == proto_of(features)
    expected = {k: [v] if isinstance(v, bytes) else v for k, v in features.items()}
    assert decode_example(record) == expected
    assert encode_example(dict(reversed(features.items()))) == record


@given(st.dictionaries(names, values, min_size=1, max_size=5))
def test_what_protocol_buffers_write_is_read(features):
    expected = {k: [v] if isinstance(v, bytes) else v for k, v in features.items()}
    assert decode_example(proto_of(features).SerializeToString()) == expected


def test_negative_integers_floats_and_empty_features():
    example = tf_example_pb2.Example()
    example.features.feature["n"].int64_list.value.extend([-1, -(2**63)])
    example.features.feature["x"].float_list.value.extend([0.5, -2.0])
    example.features.feature["none"].SetInParent()
    record = example.SerializeToString()
    assert decode_example(record) == {"n": [-1, -(2**63)], "x": [0.5, -2.0], "none": []}


@given(st.binary(max_size=60))
def test_other_bytes_are_refused_or_read_but_nothing_else(data):
    try:
        decode_example(data)
    except UsageError as error:
        assert "tf.train.Example" in str(error)


def test_a_record_cut_short_is_refused():
    record = encode_example({"image": b"x" * 100})
    for size in (0, 1, 5, len(record) - 1):
        with pytest.raises(UsageError, match=r"tf\.train\.Example"):
            decode_example(record[:size])
