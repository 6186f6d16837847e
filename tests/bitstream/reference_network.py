"""A second decoder, from FORMAT.md alone: integer part and network.

Slow, scalar, plain integers. It imports nothing of the package and no array library, on purpose:
what it cannot do from the page is missing in the page. Section numbers are those of FORMAT.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import accumulate
from math import prod

from reference_stream import Table, require

Grid = list[list[list[int]]]
"""Activations [h][w][channel]."""

# Section 8


@dataclass
class Part:
    digest: bytes
    latent_channels: int
    hyper_channels: int
    stride: int
    classes: int
    layers: list[dict]
    node_log2_s: list[int]
    node_class: list[int]
    gaussian: list[Table]
    hyper: list[Table]
    hyper_weight: list[int] | None
    context: list[dict] | None
    centroids: list[int]
    skip: int
    gain: list[int]
    step: list[int]


def read_part(blob: bytes) -> Part:
    size = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + size])
    description = json.loads(header.pop("__metadata__")["rcodec.integer_part"])
    require(description["version"] == 0, "version of the integer part")
    kinds = {"U8": (1, False), "I16": (2, True), "U16": (2, False), "I32": (4, True)}
    kinds["I64"] = (8, True)

    def numbers(name: str) -> list[int]:
        entry = header[name]
        step, signed = kinds[entry["dtype"]]
        first, last = (8 + size + offset for offset in entry["data_offsets"])
        require(last - first == step * prod(entry["shape"]), f"{name}: size")
        return [
            int.from_bytes(blob[at : at + step], "little", signed=signed)
            for at in range(first, last, step)
        ]

    def tables(name: str) -> list[Table]:
        freqs, at, out = numbers(f"{name}.freq"), 0, []
        for minimum, count in zip(
            numbers(f"{name}.minimum"), numbers(f"{name}.count"), strict=True
        ):
            listed = freqs[at : at + count]
            escape = 65536 - sum(listed)
            require(len(listed) == count and escape >= 1 and min(listed) >= 1, f"{name}: table")
            starts = [0, *accumulate(listed, initial=escape)][:-1]
            out.append((minimum, starts))
            at += count
        require(at == len(freqs), f"{name}: frequencies left over")
        return out

    for prefix, layers in (("", description["layers"]), ("context.", description.get("context"))):
        for n, layer in enumerate(layers or []):
            for kind in ("weight", "bias", "rows"):
                name = f"{prefix}layers.{n}.{kind}"
                if name in header:
                    layer[kind] = numbers(name)
                    layer[f"{kind}_shape"] = header[name]["shape"]
    weight = numbers("hyper.weight") if "hyper.weight" in header else None
    context = description.get("context")
    return Part(
        digest=hashlib.sha256(blob).digest()[:8],
        latent_channels=description["latent_channels"],
        hyper_channels=description["hyper_channels"],
        stride=description["hyper_stride"],
        classes=header["hyper.count"]["shape"][1] // (1 if weight is None else 4),
        layers=description["layers"],
        node_log2_s=numbers("node_log2_s"),
        node_class=numbers("node_class"),
        gaussian=tables("gaussian"),
        hyper=tables("hyper"),
        hyper_weight=weight,
        context=context,
        centroids=numbers("centroids") if "centroids" in header else [],
        skip=description.get("skip", 0),
        gain=numbers("context.gain") if context else [],
        step=numbers("context.step") if context else [],
    )


# Section 7


def sat(x: int) -> int:
    return min(max(x, -32768), 32767)


def rounded(x: int, b: int) -> int:
    return (x + ((1 << b) >> 1)) >> b


def conv(layer: dict, x: Grid) -> Grid:
    kh, kw, cin, cout = layer["weight_shape"]
    bias, shift = layer["bias"], layer["shift"]
    # weight[(dy kw + dx) cin + i][o] by output
    columns = [layer["weight"][o::cout] for o in range(cout)]
    for column, offset in zip(columns, bias, strict=True):
        reach = 32768 * sum(map(abs, column)) + abs(offset) + ((1 << shift) >> 1)
        require(reach < 1 << 53, "a sum may reach 2^53")
    nothing = [0] * cin
    h, w = len(x), len(x[0])
    y: Grid = []
    for r in range(h):
        row = []
        for c in range(w):
            patch: list[int] = []
            for dy in range(kh):
                for dx in range(kw):
                    a, b = r + dy - kh // 2, c + dx - kw // 2
                    patch += x[a][b] if 0 <= a < h and 0 <= b < w else nothing
            row.append(
                [
                    sat(rounded(bias[o] + sum(map(int.__mul__, patch, columns[o])), shift))
                    for o in range(cout)
                ]
            )
        y.append(row)
    return y


def leaky_relu(layer: dict, x: Grid) -> Grid:
    k = layer["slope_log2"]
    return [[[v if v >= 0 else (v + (1 << k - 1)) >> k for v in at] for at in row] for row in x]


def film(layer: dict, x: Grid, node_map: list[list[int]]) -> Grid:
    s, b = layer["stride"], layer["gain_bits"]
    double = layer["rows_shape"][1]
    channels, shift = double // 2, b + 2 * (s.bit_length() - 1)
    y: Grid = []
    for r, row in enumerate(x):
        out = []
        for c, at in enumerate(row):
            nodes = [n for line in node_map[s * r : s * r + s] for n in line[s * c : s * c + s]]
            mixed = [0] * double
            for node in nodes:
                values = layer["rows"][double * node : double * (node + 1)]
                mixed = list(map(int.__add__, mixed, values))
            out.append(
                [
                    sat(rounded(at[i] * mixed[i] + (mixed[channels + i] << b), shift))
                    for i in range(channels)
                ]
            )
        y.append(out)
    return y


def depth_to_space(layer: dict, x: Grid) -> Grid:
    b = layer["block"]
    channels = len(x[0][0]) // (b * b)
    y: Grid = [[[] for _ in range(b * len(x[0]))] for _ in range(b * len(x))]
    for r, row in enumerate(x):
        for q, at in enumerate(row):
            for dy in range(b):
                for dx in range(b):
                    first = (dy * b + dx) * channels
                    y[b * r + dy][b * q + dx] = at[first : first + channels]
    return y


def run(layers: list[dict], x: Grid, node_map: list[list[int]]) -> Grid:
    """`node_map`: of the latent cells."""
    for layer in layers:
        kind = layer["kind"]
        if kind == "conv":
            x = conv(layer, x)
        elif kind == "leaky_relu":
            x = leaky_relu(layer, x)
        elif kind == "film":
            x = film(layer, x, node_map)
        else:
            require(kind == "depth_to_space", f"layer of kind {kind}")
            x = depth_to_space(layer, x)
    return x


def predict(part: Part, z: Grid, node_map: list[list[int]]) -> Grid:
    """mean and log2_sigma, [hz S][wz S][2 C]; `node_map` extended to these sizes."""
    return run(part.layers, z, node_map)


# Section 6.2


def changes(part: Part, prior: Grid, values: Grid, node_map: list[list[int]]) -> Grid:
    """What is added to mean and log2_sigma, [h][w][2 C]."""
    assert part.context is not None
    x = [
        [
            [sat((v + 4) >> 3) for v in cell] + [sat(v) for v in known]
            for cell, known in zip(*rows, strict=True)
        ]
        for rows in zip(prior, values, strict=True)
    ]
    return run(part.context, x, node_map)
