"""The two files that make a folder of ArrayRecord shards a data set of TFDS.

They are written here as TFDS writes them (`tfds.folder_dataset.write_metadata`), because their
bytes are part of a packed set's digest and must not change with the installed TFDS.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_MODULE = "tensorflow_datasets.core.features"
_CLASSES = {
    "image": f"{_MODULE}.image_feature.Image",
    "tensor": f"{_MODULE}.tensor_feature.Tensor",
    "text": f"{_MODULE}.text_feature.Text",
}

Feature = tuple[str, dict[str, Any]]
"""Kind of a feature and what its JSON says of it."""

IMAGE: Feature = ("image", {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", "3"]}})
"""An encoded picture."""

TEXT: Feature = ("text", {})
"""A string in UTF-8."""

INTEGER: Feature = ("tensor", {"dtype": "int32", "encoding": "none", "shape": {}})
"""A single integer."""


def tensor(shape: Sequence[int], dtype: str) -> Feature:
    """An array of a fixed shape, stored as its little-endian bytes."""
    dimensions = {"dimensions": [str(size) for size in shape]}
    return "tensor", {"dtype": dtype, "encoding": "bytes", "shape": dimensions}


def shard_name(dataset: str, split: str, index: int, count: int) -> str:
    """File name of a shard, as TFDS has it."""
    return f"{dataset}-{split}.array_record-{index:05d}-of-{count:05d}"


def features_json(features: dict[str, Feature]) -> bytes:
    """Content of features.json."""
    described = {
        name: {"pythonClassName": _CLASSES[kind], kind: content}
        for name, (kind, content) in features.items()
    }
    return _json(
        {
            "pythonClassName": f"{_MODULE}.features_dict.FeaturesDict",
            "featuresDict": {"features": described},
        }
    )


def dataset_info_json(
    dataset: str, split: str, shard_lengths: Sequence[int], size_bytes: int, description: str
) -> bytes:
    """Content of dataset_info.json for a set of one split."""
    return _json(
        {
            "name": dataset,
            "description": description,
            "version": "1.0.0",
            "fileFormat": "array_record",
            "splits": [
                {
                    "name": split,
                    "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                    "numBytes": str(size_bytes),
                    "shardLengths": [str(length) for length in shard_lengths],
                }
            ],
        }
    )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
