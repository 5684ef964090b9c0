"""A graph in eager torch gives what ONNX Runtime gives: operator by operator, and for every graph that is shipped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from engines.bundle import Bundle, load, shipped
from engines.engine import EngineError, TensorSpec
from engines.onnx_runtime import OnnxEngine
from engines.parity import differences
from engines.samples import Samples
from tests.small_bundle import SIZE_PX, audio_encoder, frame_encoder, graph, small_bundle
from tests.small_clip_bundle import small_clip_bundle
from train.torch_graph import TorchGraph
from train.torch_operators import KNOWN

FLOAT, INT64, UINT8, INT8, BOOL = (
    TensorProto.DataType.Value(name) for name in ("FLOAT", "INT64", "UINT8", "INT8", "BOOL")
)
RANDOM = np.random.default_rng(0)


class Fixed:
    """An input that the graph itself holds."""

    def __init__(self, value: Any, dtype: str = "int64") -> None:
        self.value = np.asarray(value, dtype)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def weight(*shape: int) -> Fixed:
    return Fixed(normal(*shape), "float32")


def number(value: float | Sequence[float]) -> Fixed:
    return Fixed(value, "float32")


def case(kind: str, *inputs: Any, n_outputs: int = 1, opset: int = 20, out: int = FLOAT, **attributes: Any) -> Any:
    """Operator, inputs (arrays are fed, Fixed is in the graph, None is left out), outputs, opset, type, attributes."""
    return pytest.param(
        kind, inputs, n_outputs, opset, out, attributes, id=f"{kind}-{opset}-{attributes or len(inputs)}"
    )


def write(
    path: Path, kind: str, inputs: Sequence[Any], n_outputs: int, opset: int, out: int, attributes: dict[str, Any]
) -> tuple[Path, dict[str, np.ndarray]]:
    """A graph of one node, and what to feed it."""
    names = ["" if one is None else f"x{k}" for k, one in enumerate(inputs)]
    feeds = {name: one for name, one in zip(names, inputs, strict=True) if isinstance(one, np.ndarray)}
    fixed = {name: one.value for name, one in zip(names, inputs, strict=True) if isinstance(one, Fixed)}
    outputs = [f"y{k}" for k in range(n_outputs)]
    nodes = [helper.make_node(kind, names, outputs, **attributes)]
    if out in (BOOL, INT8):  # which no engine declares
        nodes = [
            helper.make_node(kind, names, ["small"], **attributes),
            helper.make_node("Cast", ["small"], outputs, to=FLOAT),
        ]
        out = FLOAT
    made = helper.make_graph(
        nodes,
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(one.dtype), one.shape)
            for name, one in feeds.items()
        ],
        [helper.make_tensor_value_info(name, out, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in fixed.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return path, feeds


X, IMAGE, VOLUME, WAVE = normal(2, 3, 5), normal(2, 4, 9, 8), normal(2, 3, 6, 7, 8), normal(2, 3, 40)
ONE_BY_ONE = ("Abs", "Cos", "Exp", "HardSwish", "Identity", "Neg", "Relu", "Sigmoid", "Sign", "Sin", "Tanh")
PLACES = "coordinate_transformation_mode"
CASES = [
    *(case(kind, 3 * X) for kind in ONE_BY_ONE),
    *(case(kind, np.abs(X) + 0.1) for kind in ("Log", "Sqrt")),
    *(case(kind, X, normal(3, 1)) for kind in ("Add", "Div", "Max", "Min", "Mul", "Sub")),
    case("Add", X, number(2)), case("Mul", number(2), X), case("Max", X, normal(5), number(0)),
    case("Div", np.array([7, -7, 8]), Fixed([2, 2, -3]), out=INT64),
    case("Pow", np.abs(X), number(2)), case("Pow", np.abs(X), normal(5)),
    case("Pow", np.abs(X), number([2, 3, 0, 1, 0.5])), case("Where", Fixed(X > 0, "bool"), X, number(0)),
    case("Gelu", 3 * X), case("Gelu", 3 * X, approximate="tanh"),
    case("Clip", X, number(-0.5), number(0.5)), case("Clip", X, None, number(0.5)), case("Clip", X, number(0)),
    case("Clip", X), case("Clip", X, np.array(-0.1, np.float32), number(0.3)),
    case("PRelu", IMAGE, weight(4, 1, 1)), case("PRelu", X, weight(1)), case("PRelu", X, weight(3, 1)),
    case("PRelu", X, weight(3, 5)), case("PRelu", normal(3, 5), weight(3, 1)),
    case("Softmax", X, axis=1), case("Softmax", X), case("MatMul", X, weight(5, 4)), case("MatMul", weight(4, 3), X),
    case("MatMul", X, normal(2, 5, 3)), case("Gemm", normal(3, 5), weight(4, 5), weight(4), transB=1),
    case("Gemm", normal(3, 5), weight(4, 5), transB=1),
    case("Gemm", normal(5, 3), normal(5, 4), normal(3, 1), transA=1, alpha=0.5, beta=2.0),
    # types
    case("Cast", np.arange(6, dtype=np.uint8), to=FLOAT), case("Cast", 9 * X, to=INT64, out=INT64),
    case("LessOrEqual", X, normal(5), out=BOOL),
    # shapes
    case("Reshape", X, Fixed([0, -1])), case("Reshape", X, Fixed([-1, 5]), allowzero=1),
    case("Reshape", X, np.array([0, 5, 3])), case("Transpose", X), case("Transpose", X, perm=[1, 0, 2]),
    case("Squeeze", normal(1, 3, 1)), case("Squeeze", normal(1, 3, 1), Fixed([0, -1])),
    case("Unsqueeze", X, Fixed([-1])), case("Unsqueeze", X, Fixed([-1, 0, 2])), case("Flatten", X),
    case("Flatten", X, axis=2), case("Concat", X, normal(2, 1, 5), axis=1), case("Concat", X, weight(2, 3, 2), axis=-1),
    case("Slice", X, Fixed([1]), Fixed([2**62]), Fixed([2])), case("Slice", X, Fixed([0, 1]), Fixed([1, -1])),
    case("Slice", X, Fixed([0, -4]), Fixed([9, 5]), Fixed([1, 2]), Fixed([2, 3])),
    case("Slice", X, Fixed([-1]), Fixed([-(2**62)]), Fixed([-1]), Fixed([-2])),
    case("Split", X, n_outputs=2, axis=2, num_outputs=2), case("Split", X, Fixed([1, 4]), n_outputs=2, axis=-1),
    case("Expand", normal(3, 1), Fixed([2, 1, 5])), case("Expand", normal(3, 1), np.array([3, 4])),
    case("Gather", X, Fixed(-1), axis=2), case("Gather", X, Fixed([[0, -1], [2, 1]]), axis=1),
    case("Gather", X, np.array([1, 0]), axis=-1), case("Shape", X, out=INT64),
    case("Shape", X, start=1, out=INT64), case("Shape", X, start=0, end=-1, out=INT64),
    # reductions
    *(case(kind, X, Fixed([1, -1])) for kind in ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")),
    *(case(kind, X, Fixed([2]), keepdims=0) for kind in ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin")),
    case("ReduceMean", X, opset=17, axes=[1], keepdims=0), case("ReduceSum", X), case("ReduceMax", X, keepdims=0),
    case("ReduceSum", X, noop_with_empty_axes=1),
    # layers
    case("Conv", WAVE, weight(6, 3, 5), strides=[2]), case("Conv", IMAGE, weight(6, 4, 3, 3), weight(6), pads=[1] * 4),
    case("Conv", IMAGE, weight(8, 2, 3, 2), group=2, dilations=[2, 1], strides=[1, 2]),
    case("Conv", VOLUME, weight(4, 3, 3, 3, 3), strides=[2, 2, 2], pads=[1, 0, 0, 1, 1, 1]),
    case("Conv", IMAGE, normal(6, 4, 1, 1), kernel_shape=[1, 1]),
    case("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    case("MaxPool", IMAGE - 9, kernel_shape=[3, 3], pads=[0, 1, 1, 1]),
    case("MaxPool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], dilations=[2, 2], strides=[2, 1]),
    case("MaxPool", VOLUME, kernel_shape=[1, 3, 3], strides=[1, 2, 2]), case("MaxPool", WAVE, kernel_shape=[4]),
    case("AveragePool", WAVE, kernel_shape=[8], strides=[4]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[0, 1, 1, 0], count_include_pad=1),
    case("AveragePool", VOLUME, kernel_shape=[2, 2, 2], strides=[2, 2, 2], ceil_mode=1, count_include_pad=1),
    case("GlobalAveragePool", IMAGE), case("LayerNormalization", X, weight(5), weight(5), epsilon=1e-3),
    case("LayerNormalization", IMAGE, weight(9, 8), axis=2),
    case("BatchNormalization", IMAGE, weight(4), weight(4), weight(4), number([1, 2, 3, 0.5]), epsilon=1e-3),
    case("Pad", X, Fixed([0, 0, 1, 0, 2, 3]), number(0.5)), case("Pad", X, Fixed([0, 0, 1, 0, 0, 2]), mode="edge"),
    case("Pad", IMAGE, Fixed([0, 0, 1, 2, 0, 0, 3, 1]), mode="reflect"), case("Pad", X, Fixed([0, -1, 1, 0, 0, -2])),
    case("Pad", X, Fixed([0] * 6), mode="edge"),
    case("Resize", WAVE, None, None, Fixed([2, 3, 17]), mode="linear"),
    case("Resize", IMAGE, None, number([1, 1, 2, 1.5]), mode="linear"),
    case("Resize", IMAGE, None, None, np.array([2, 4, 5, 12]), mode="linear", **{PLACES: "align_corners"}),
    case("Resize", IMAGE, None, number([1, 1, 2, 3]), nearest_mode="floor", **{PLACES: "asymmetric"}),
    # int8
    case("QuantizeLinear", 9 * X, number(0.1), Fixed(3, "uint8"), out=UINT8),
    case("QuantizeLinear", 9 * X, number([0.1, 0.2, 0.5]), Fixed([0, 1, -2], "int8"), out=INT8),
    case("DequantizeLinear", np.arange(8, dtype=np.uint8), number(0.5), Fixed(3, "uint8")),
    case("DequantizeLinear", np.arange(6, dtype=np.uint8).reshape(2, 3), number([0.5, 0.2]), axis=0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "n_outputs", "opset", "out", "attributes"), CASES)
def test_operators_compute_what_onnx_runtime_computes(
    tmp_path: Path, kind: str, inputs: Any, n_outputs: int, opset: int, out: int, attributes: dict[str, Any]
) -> None:
    path, feeds = write(tmp_path / "a.onnx", kind, inputs, n_outputs, opset, out, attributes)
    session = onnxruntime.InferenceSession(path)
    got = TorchGraph(path).run(feeds)
    for name, expected in zip(got, session.run(None, feeds), strict=True):
        assert (got[name].dtype, got[name].shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=2e-5)


def test_every_known_operator_is_compared() -> None:
    compared = {parameters.values[0] for parameters in CASES}
    assert KNOWN - compared == {"Constant"}  # which every graph of a small bundle has


REFUSED = [
    case("Mod", X, X), case("Conv", IMAGE, weight(6, 4, 3, 3), auto_pad="SAME_UPPER"),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], pads=[0, 0, 1, 1], ceil_mode=1),
    case("AveragePool", IMAGE, kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
    case("Resize", IMAGE, None, number([1, 1, 2, 2]), mode="cubic"), case("Pad", X, Fixed([0] * 6), mode="wrap"),
    case("Slice", X, np.array([1]), np.array([2])), case("MaxPool", IMAGE, n_outputs=2, kernel_shape=[2, 2]),
    case("Cast", X, to=TensorProto.STRING),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "n_outputs", "opset", "out", "attributes"), REFUSED)
def test_what_is_not_known_is_refused_by_name(
    tmp_path: Path, kind: str, inputs: Any, n_outputs: int, opset: int, out: int, attributes: dict[str, Any]
) -> None:
    path, _ = write(tmp_path / "a.onnx", kind, inputs, n_outputs, opset, out, attributes)
    with pytest.raises(EngineError, match=rf"^expected .*{kind} \(y0\)") as caught:
        TorchGraph(path)
    assert "\n" not in str(caught.value)


def test_a_graph_of_another_time_is_refused(tmp_path: Path) -> None:
    path, _ = write(tmp_path / "a.onnx", "Relu", [X], 1, 9, FLOAT, {})
    with pytest.raises(EngineError, match=r"expected an ONNX graph at .*a\.onnx of opset 13 to 23, got 9"):
        TorchGraph(path)


def test_what_torch_cannot_run_names_the_node(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "x"], ["y"])]
    path = graph(tmp_path / "a.onnx", nodes, {"x": (FLOAT, ["batch", 2])}, {"y": ["batch", "batch"]})
    engine = TorchGraph(path)
    assert engine.run({"x": np.eye(2, dtype=np.float32)})["y"].tolist() == [[1, 0], [0, 1]]
    with pytest.raises(EngineError, match=r"^torch failed to run MatMul \(y\): mat1 and mat2"):
        engine.run({"x": np.ones((3, 2), np.float32)})


@pytest.mark.parametrize(
    ("nodes", "why"),
    [([], "no node makes its output y"), ([("Relu", "z", "y")], "Relu reads z, which none makes")],
)
def test_a_graph_that_misses_a_value_is_refused(tmp_path: Path, nodes: list[tuple[str, str, str]], why: str) -> None:
    made = helper.make_graph(
        [helper.make_node(kind, [x], [y]) for kind, x, y in nodes],
        "broken",
        [helper.make_tensor_value_info("x", FLOAT, [1])],
        [helper.make_tensor_value_info("y", FLOAT, [1])],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "a.onnx")
    with pytest.raises(EngineError, match=f"expected an ONNX graph at .*, {why}"):
        TorchGraph(tmp_path / "a.onnx")


# whole graphs


@pytest.fixture(params=["pairs", "clips", *shipped()])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    made = {"pairs": small_bundle, "clips": small_clip_bundle}
    return made[request.param](tmp_path) if request.param in made else load(request.param)


def test_every_graph_agrees_with_onnx_runtime_on_real_inputs(bundle: Bundle) -> None:
    with Samples(bundle) as samples:
        for stage in bundle.manifest.stages:
            engine, reference = TorchGraph(bundle.stage(stage)), OnnxEngine(bundle.stage(stage))
            assert (engine.inputs, engine.outputs) == (reference.inputs, reference.outputs)
            feeds = [samples.feeds(stage, n, first=n) for n in (1, 3)]
            found = differences(engine, reference, feeds)
            assert set(found) == {spec.name for spec in reference.outputs}
            # in 8 bits a sum in another order can round to the next step, and the layers after it spread that
            in_8_bits = any(node.op_type == "QuantizeLinear" for node in onnx.load(bundle.stage(stage)).graph.node)
            assert max(found.values()) < (2e-2 if in_8_bits else 1e-4), stage


# what an engine promises beyond its numbers


def test_it_declares_its_tensors(tmp_path: Path) -> None:
    engine = TorchGraph(frame_encoder(tmp_path / "a.onnx"))
    assert engine.backend == "torch"
    assert engine.inputs == (TensorSpec(name="crop", dtype="uint8", shape=("batch", SIZE_PX, SIZE_PX, 3)),)
    assert [spec.name for spec in engine.outputs] == ["features", "posterior"]


def test_feeds_may_be_views_and_outputs_belong_to_the_caller(tmp_path: Path) -> None:
    path, _ = write(tmp_path / "a.onnx", "Identity", [X], 1, 20, FLOAT, {})
    engine = TorchGraph(path)
    backwards = X[:, :, ::-1]
    backwards.setflags(write=False)
    got = engine.run({"x0": backwards})["y0"]
    np.testing.assert_array_equal(got, backwards)
    whole = X.copy()
    got = engine.run({"x0": whole})["y0"]
    got[:] = 7  # neither the feed's memory
    np.testing.assert_array_equal(whole, X)
    np.testing.assert_array_equal(engine.run({"x0": X})["y0"], X)


def test_a_constant_graph_keeps_its_own_values(tmp_path: Path) -> None:
    path, feeds = write(tmp_path / "a.onnx", "Neg", [number([1, 2])], 1, 20, FLOAT, {})
    engine = TorchGraph(path)
    engine.run(feeds)["y0"][:] = 7
    assert engine.run(feeds)["y0"].tolist() == [-1, -2]


@pytest.mark.parametrize("threads", [1, 2])
def test_it_sets_the_threads_of_the_process(tmp_path: Path, threads: int) -> None:
    path, feeds = write(tmp_path / "a.onnx", "Relu", [X], 1, 20, FLOAT, {})
    engine = TorchGraph(path, threads=threads)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - threads)
        engine.run(feeds)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_wrong_feeds_and_a_closed_engine_are_refused(tmp_path: Path) -> None:
    engine = TorchGraph(audio_encoder(tmp_path / "a.onnx"))
    with pytest.raises(EngineError, match=r"expected inputs \['waveform'\], got \['crop'\]"):
        engine.run({"crop": X})
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="expected an open engine, this one was closed"):
        engine.run({"waveform": X})


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x09" * 50])
def test_a_corrupt_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=f"expected an ONNX graph at {path}, ") as caught:
        TorchGraph(path)
    assert "\n" not in str(caught.value)
