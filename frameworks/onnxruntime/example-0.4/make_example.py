"""Write ``model.onnx``, ``request.json`` and ``response.json``: ``python make_example.py``.

Needs Python 3.7 with onnxruntime 0.4.0, as in the image, and of the same time onnx 1.5.0, with
``protobuf<3.21``.

Nothing is trained: the filters of the convolution are the classical Sobel operator, so one can
see why the model works. The expected response is computed here with numpy alone, in 64 bits, from
the weights in ``model.onnx``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import score
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent


def main() -> None:
    onnx.save(build(), str(HERE / "model.onnx"))
    images = request()
    write("request.json", lines({"data": images.tolist()}))

    expected = respond(onnx.load(str(HERE / "model.onnx")), images)
    write("response.json", lines(expected))

    score.init()
    actual = score.run((HERE / "request.json").read_text(encoding="utf-8"))
    assert actual["predictions"] == expected["predictions"], actual
    assert actual["classes"] == expected["classes"], actual
    np.testing.assert_allclose(
        actual["probabilities"], expected["probabilities"], rtol=1e-5, atol=1e-6
    )
    difference = np.abs(np.subtract(actual["probabilities"], expected["probabilities"]))
    print("max abs diff:", difference.max())


def build() -> onnx.ModelProto:
    """Edges up, down, left and right; how many of each; which direction wins, if any."""
    down = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], dtype=np.float32)
    kernels = np.stack([down, -down, down.T, -down.T])[:, np.newaxis]
    # Rows are classes (horizontal, vertical, plain), columns the mean response of each kernel.
    weights = np.array(
        [[2.1, 1.9, -1.6, -1.4], [-1.7, -1.3, 2.2, 1.8], [-1.1, -0.9, -1.2, -0.8]],
        dtype=np.float32,
    )
    bias = np.array([-0.25, -0.2, 0.85], dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "kernels", "offsets"], ["responses"]),
            helper.make_node("Relu", ["responses"], ["edges"]),
            helper.make_node("GlobalAveragePool", ["edges"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
            helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"], transB=1),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "stripes",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        initializer=[
            numpy_helper.from_array(kernels, "kernels"),
            numpy_helper.from_array(np.full(4, -0.05, dtype=np.float32), "offsets"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    # What ONNX 1.5 has, for which ONNX Runtime 0.4 was made; later releases load the file too.
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5, producer_name="example"
    )
    onnx.checker.check_model(model)
    return model


def request() -> np.ndarray:
    """Two clear images, a faint one, an empty one, a negative one and a glaring one."""
    rng = np.random.default_rng(7)
    wave = np.sin(np.arange(8) * 1.3)
    horizontal = np.repeat(wave[:, np.newaxis], 8, axis=1)
    noise = rng.normal(0, 0.1, (6, 8, 8))
    images = noise + np.stack(
        [
            0.5 + 0.5 * horizontal,
            0.5 + 0.5 * horizontal.T,
            0.5 + 0.07 * horizontal.T,
            np.zeros((8, 8)),
            -3 + 0.4 * horizontal,
            1000 * horizontal.T,
        ]
    )
    return np.round(images, 2)


def respond(model: onnx.ModelProto, images: np.ndarray) -> dict[str, Any]:
    """Compute the response without ONNX Runtime, by loops over the kernels' positions."""
    stored = {t.name: numpy_helper.to_array(t).astype(float) for t in model.graph.initializer}
    probabilities = []
    for image in images:
        # One mean per kernel: the positive part of its response at every position.
        features = [
            np.mean(
                [
                    max(0.0, offset + float((image[y : y + 3, x : x + 3] * kernel[0]).sum()))
                    for y in range(6)
                    for x in range(6)
                ]
            )
            for kernel, offset in zip(stored["kernels"], stored["offsets"])
        ]
        logits = stored["weights"] @ features + stored["bias"]
        powers = np.exp(logits - logits.max())
        probabilities.append((powers / powers.sum()).tolist())
    return {
        "predictions": [score.CLASSES[int(np.argmax(p))] for p in probabilities],
        "classes": score.CLASSES,
        "probabilities": probabilities,
    }


def lines(body: dict[str, list[Any]]) -> str:
    """One item a line: short enough to read, and a change shows as a line in a diff."""
    parts = (
        f'  "{key}": [\n    ' + ",\n    ".join(json.dumps(item) for item in items) + "\n  ]"
        for key, items in body.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}"


def write(name: str, text: str) -> None:
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
