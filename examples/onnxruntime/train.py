"""Horizontal and vertical stripes: edges by the Sobel operator, in an ONNX file.

Nothing is trained, so one can see why the model works. The images have no package that writes ONNX
files: here are the few fields of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto that the
model needs, by their numbers there. Versions of 2019, which every ONNX Runtime since 0.4 loads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from examples import data, oracles

MODEL = "model.onnx"
ROWS = data.edge_images()
CLASSES = ["horizontal", "vertical", "plain"]
IR_VERSION, OPSET = 5, 10
FLOAT, INT = 1, 2

DOWN = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], np.float32)
# Rows are classes, columns the mean response of each kernel.
WEIGHTS = [[2.1, 1.9, -1.6, -1.4], [-1.7, -1.3, 2.2, 1.8], [-1.1, -0.9, -1.2, -0.8]]


def train(path: Path) -> None:
    """Writes the model: edges down, up, right and left; how many of each; which wins, if any."""
    graph = b"".join(
        [
            node("Conv", ["images", "kernels", "offsets"], "responses"),
            node("Relu", ["responses"], "edges"),
            node("GlobalAveragePool", ["edges"], "pooled"),
            node("Flatten", ["pooled"], "features"),
            node("Gemm", ["features", "weights", "bias"], "logits", transB=1),
            node("Softmax", ["logits"], "probabilities", axis=1),
            field(2, "stripes"),
            tensor("kernels", np.stack([DOWN, -DOWN, DOWN.T, -DOWN.T])[:, np.newaxis]),
            tensor("offsets", [-0.05] * 4),
            tensor("weights", WEIGHTS),
            tensor("bias", [-0.25, -0.2, 0.85]),
            field(11, value("images", ["batch", 1, 8, 8])),
            field(12, value("probabilities", ["batch", 3])),
        ]
    )
    opset = field(8, field(1, "") + field(2, OPSET))
    path.write_bytes(field(1, IR_VERSION) + field(2, "example") + field(7, graph) + opset)


def node(operator: str, inputs: Sequence[str], output: str, **attributes: int) -> bytes:
    """A node of a graph."""
    fields = [*(field(1, name) for name in inputs), field(2, output), field(4, operator)]
    fields += [
        field(5, field(1, name) + field(3, number) + field(20, INT))
        for name, number in attributes.items()
    ]
    return field(1, b"".join(fields))


def tensor(name: str, values: Any) -> bytes:
    """A tensor that a graph starts with."""
    array = np.asarray(values, "<f4")
    sizes = b"".join(field(1, size) for size in array.shape)
    return field(5, sizes + field(2, FLOAT) + field(8, name) + field(9, array.tobytes()))


def value(name: str, shape: Sequence[Any]) -> bytes:
    """Name and type of an input or output: a size has a number or a name."""
    sizes = [field(1, field(2 if isinstance(size, str) else 1, size)) for size in shape]
    type_ = field(1, field(1, FLOAT) + field(2, b"".join(sizes)))
    return field(1, name) + field(2, type_)


def field(number: int, value: int | str | bytes) -> bytes:
    """A field of a message: https://protobuf.dev/programming-guides/encoding/"""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A number: seven bits a byte, the lowest first; the highest bit says that more follow."""
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and content of each field of a message."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte <= 0x7F:
                return value

    while place < len(message):
        key, content = number(), number()
        if key & 7 == 2:
            place += content
            yield key >> 3, message[place - content : place]
        else:
            yield key >> 3, content


def weights(path: Path) -> Any:
    """The four tensors of the file."""
    (graph,) = (content for number, content in fields(path.read_bytes()) if number == 7)
    tensors = [dict(fields(content)) for number, content in fields(graph) if number == 5]
    stored = {found[8]: np.frombuffer(found[9], "<f4") for found in tensors}
    kernels, dense = stored[b"kernels"].reshape(4, 3, 3), stored[b"weights"].reshape(3, 4)
    offsets, bias = stored[b"offsets"].tolist(), stored[b"bias"].tolist()
    return oracles.Network(kernels.tolist(), offsets, dense.tolist(), bias, "mean")


def respond(weights: Any, rows: Any) -> dict[str, Any]:
    """The response, without ONNX Runtime."""
    return oracles.classified(CLASSES, [oracles.convolution(weights, row) for row in rows])
