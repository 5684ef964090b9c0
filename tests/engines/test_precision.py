"""Half-precision graphs: what computes in half, what stays, where casts stand, and that rounding is really checked."""

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.engine import EngineError
from engines.parity import TOLERANCES
from engines.precision import PRECISIONS, Precision, check, convert, emulated
from engines.precision.run import outputs
from tests.half_checks import computes_in, faults
from tests.half_network import FLOAT, N, edited, graph, matrix, network, node, wave

HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
NUMPY = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
halves = pytest.mark.parametrize("precision", ["fp16", "bf16"])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_converted_graph_is_valid_and_agrees(precision: Precision) -> None:
    made = convert(network(), precision, [wave()])
    assert faults(made.model, network()) == []
    found = check(network(), made, [wave(), wave(3, 0.1)])
    assert set(found) == {"features", "posterior"}
    assert max(found.values()) <= TOLERANCES[precision]
    assert (max(found.values()) == 0) == (precision == "fp32")


def test_each_node_computes_where_it_should() -> None:
    made = convert(network(), "fp16", [wave()])
    assert made.kept == {
        "front end": ("spectrum", "power", "floored", "levels"),
        "normalisation": ("normed", "norm", "direction"),
        "softmax": ("shares", "posterior"),
        "neighbours": ("heads",),
        "range": ("bounded",),
        "small": ("logits",),
    }
    assert (made.n_half, made.n_kept) == (6, 12)
    types = computes_in(made.model)
    assert {name for name, kind in types.items() if kind == TensorProto.FLOAT16} == {
        "levels_fp16", "hidden", "active", "mixed", "features_fp16", "shares_fp16", "joined", "third",
    }  # fmt: skip
    assert convert(network(least=0.1), "fp16", [wave()]).kept["neighbours"] == ("heads", "bounded")


@halves
def test_weights_are_stored_in_half_once(precision: Precision) -> None:
    made = onnx.load_from_string(convert(network(), precision, [wave()]).model)
    weights = {w.name: numpy_helper.to_array(w) for w in made.graph.initializer}
    assert {name for name, w in weights.items() if w.dtype == NUMPY[precision]} == {
        f"first.weight_{precision}", f"second.weight_{precision}",
    }  # fmt: skip
    np.testing.assert_array_equal(weights[f"second.weight_{precision}"], matrix(2).astype(NUMPY[precision]))
    assert weights["branch.frontend.basis"].dtype == np.float32


def test_a_weight_of_kept_and_half_nodes_is_stored_in_both() -> None:
    nodes = [
        node("MatMul", ["wave", "w"], ["a"]),
        node("Div", ["a", "w"], ["b"]),
        node("MatMul", ["b", "w"], ["y"]),
    ]
    original = graph(nodes, {"w": matrix(0) + 3}, {"wave": (FLOAT, ["batch", N])}, {"y": ["batch", N]})
    made = convert(original, "fp16", [wave(N)])
    (half, kept) = sorted(
        onnx.load_from_string(made.model).graph.initializer, key=lambda w: w.data_type == TensorProto.FLOAT
    )
    assert (half.name, kept.name, half.data_type) == ("w_fp16", "w", TensorProto.FLOAT16)


def test_a_tensor_that_came_in_float32_is_not_cast_back() -> None:
    nodes = [
        node("Log", ["wave"], ["levels"]),
        node("MatMul", ["levels", "w"], ["a"]),
        node("MatMul", ["levels", "w"], ["b"]),
        node("Div", ["levels", "a"], ["c"]),  # after a half has asked for the same
        node("Div", ["c", "b"], ["y"]),
    ]
    original = graph(nodes, {"w": matrix(0)}, {"wave": (FLOAT, ["batch", N])}, {"y": ["batch", N]})
    given = {"wave": np.exp(wave()["wave"])}
    made = convert(original, "fp16", [given])
    assert faults(made.model, original) == []
    casts = [each for each in onnx.load_from_string(made.model).graph.node if each.op_type == "Cast"]
    assert [(c.input[0], c.output[0]) for c in casts] == [
        ("levels", "levels_fp16"), ("a", "a_fp32"), ("b", "b_fp32"),
    ]  # fmt: skip


def test_the_batch_stays_free() -> None:
    rounded = emulated(convert(network(), "fp16", [wave()]).model)
    given = wave(5)
    together = outputs(rounded, given)["posterior"]
    for k in range(5):
        alone = outputs(rounded, {"wave": given["wave"][k : k + 1]})["posterior"]
        np.testing.assert_allclose(alone[0], together[k], atol=1e-3)


def test_what_leaves_the_range_stays_in_float32() -> None:
    loud = network(gain=1e5)
    made = convert(loud, "fp16", [wave()])
    assert set(made.kept["range"]) >= {"hidden", "active", "mixed", "features"}
    assert faults(made.model, loud) == []
    assert max(check(loud, made, [wave()]).values()) <= TOLERANCES["fp16"]
    assert "range" not in convert(loud, "bf16", [wave()]).kept


def test_an_overflow_that_was_not_measured_is_caught() -> None:
    quiet = network(gain=100.0)
    made = convert(quiet, "fp16", [{"wave": np.ones((1, N), np.float32)}])
    assert check(quiet, made, [wave(2, 1e25)])["features"] == float("inf")


@halves
def test_every_rounding_is_made(precision: Precision) -> None:
    nodes = [
        node("MatMul", ["wave", "w"], ["a"]),
        node("Mul", ["a", "a"], ["b"]),
        node("Add", ["b", "a"], ["c"]),
        node("Relu", ["c"], ["d"]),
        node("Transpose", ["d"], ["y"], perm=[0, 1]),
    ]
    original = graph(nodes, {"w": matrix(0)}, {"wave": (FLOAT, ["batch", N])}, {"y": ["batch", N]})

    def half(x: np.ndarray) -> np.ndarray:
        return x.astype(NUMPY[precision]).astype(np.float32)

    x, w = half(wave()["wave"]), half(matrix(0))
    a = half(x @ w)
    b = half(a * a)
    expected = np.maximum(half(b + a), 0)
    made = convert(original, precision, [wave()])
    got = outputs(emulated(made.model), wave())["y"]
    # sums of products in another order may round to the other neighbour, here and there
    assert (got == expected).mean() > 0.99
    assert (half(got) == got).all()
    exact = outputs(original, wave())["y"]
    assert (half(exact) == exact)[exact > 0].mean() < 0.01
    assert check(original, made, [wave()])["y"] == pytest.approx(np.abs(expected - exact).max() / exact.max(), rel=0.2)


def test_nothing_is_changed_for_float32() -> None:
    made = convert(network(), "fp32", [])
    assert (made.model, made.n_half, made.n_kept) == (network(), 0, 18)


def test_uint8_is_cast_before_it_is_moved() -> None:
    nodes = [
        node("Transpose", ["crop"], ["moved"], perm=[0, 2, 1]),
        node("Unsqueeze", ["moved", "axis"], ["picture"]),
        node("Cast", ["picture"], ["pixels"], to=FLOAT),
        node("Conv", ["pixels", "conv.weight"], ["y"]),
    ]
    weights = {"axis": np.array([1]), "conv.weight": matrix(0, 4, 9).reshape(4, 1, 3, 3)}
    original = graph(nodes, weights, {"crop": (TensorProto.UINT8, ["batch", 8, 9])}, {"y": ["batch", 4, 7, 6]})
    crop = np.random.default_rng(0).integers(0, 256, (2, 8, 9)).astype(np.uint8)
    for precision in PRECISIONS:
        made = convert(original, precision, [{"crop": crop}])
        (first, *_) = onnx.load_from_string(made.model).graph.node
        assert (first.op_type, list(first.input)) == ("Cast", ["crop"])
        assert faults(made.model, original) == []
        assert check(original, made, [{"crop": crop}])["y"] <= TOLERANCES[precision]


def test_constants_among_the_nodes_are_weights_too() -> None:
    value = numpy_helper.from_array(matrix(0), "w")
    nodes = [
        node("Constant", [], ["w"], value=value),
        node("Constant", [], ["two"], value_float=2.0),
        node("MatMul", ["wave", "w"], ["a"]),
        node("Mul", ["a", "two"], ["y"]),
    ]
    original = graph(nodes, {}, {"wave": (FLOAT, ["batch", N])}, {"y": ["batch", N]})
    made = convert(original, "bf16", [wave()])
    assert made.kept == {}
    assert {w.name: w.data_type for w in onnx.load_from_string(made.model).graph.initializer} == {
        "w_bf16": TensorProto.BFLOAT16, "two_bf16": TensorProto.BFLOAT16,
    }  # fmt: skip
    assert faults(made.model, original) == []


def test_bfloat16_raises_the_opset_or_says_why_not() -> None:
    made = onnx.load_from_string(convert(network(), "bf16", [wave()]).model)
    assert made.opset_import[0].version >= 22
    old = graph([node("Cast", ["wave"], ["y"], to="FLOAT")], {}, {"wave": (FLOAT, [2])}, {"y": [2]}, opset=5)
    with pytest.raises(EngineError, match="expected a graph whose opset 5 can be raised to 22, which bfloat16 needs"):
        convert(old, "bf16", [])


# planted faults: what the checks of every graph rest on


def test_a_halved_softmax_is_found() -> None:
    nodes = [
        node("Cast", ["wave"], ["h"], to=TensorProto.FLOAT16),
        node("Softmax", ["h"], ["s"]),
        node("Cast", ["s"], ["y"], to=FLOAT),
    ]
    planted = graph(nodes, {}, {"wave": (FLOAT, ["batch", N])}, {"y": ["batch", N]})
    assert faults(planted, planted) == ["Softmax s computes in half"]


def test_needless_casts_are_found() -> None:
    nodes = [
        node("Cast", ["wave"], ["a"], to=TensorProto.FLOAT16),
        node("Cast", ["wave"], ["b"], to=TensorProto.FLOAT16),
        node("Add", ["a", "b"], ["c"]),
        node("Cast", ["c"], ["d"], to=FLOAT),
        node("Cast", ["d"], ["e"], to=TensorProto.FLOAT16),
        node("Cast", ["e"], ["y"], to=FLOAT),
    ]
    planted = graph(nodes, {}, {"wave": (FLOAT, ["batch", N])}, {"y": ["batch", N]})
    assert faults(planted, planted) == ["d is cast from a cast", "e is cast from a cast", "wave is cast twice"]


def test_other_outputs_and_wrong_types_are_found() -> None:
    made = convert(network(), "fp16", [wave()]).model
    (line,) = faults(edited(made, "Relu", inputs=["features"]), network())[:1]
    assert line.startswith("not valid: ")
    other = graph([node("Relu", ["x"], ["y"])], {}, {"x": (FLOAT, [2])}, {"y": [2]})
    assert faults(other, network())[0].startswith("inputs and outputs are [('x', 1, (2,)), ('y', 1, (2,))], were")


# refusals


def test_what_cannot_be_converted_is_refused() -> None:
    with pytest.raises(EngineError, match="expected a precision of fp32, fp16, bf16, got 'int8'"):
        convert(network(), "int8", [])  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="expected the bytes of an ONNX graph, onnx says: "):
        convert(b"not a graph", "fp16", [])
    with pytest.raises(EngineError, match="expected the bytes of an ONNX graph, got nothing with an output"):
        convert(b"\x08\x09" * 50, "fp16", [])
    with pytest.raises(EngineError, match="expected a graph whose tensors can be typed"):
        convert(edited(network(), "Relu", kind="Rely"), "fp16", [])
    with pytest.raises(EngineError, match="expected a graph that ONNX Runtime runs, it says: "):
        convert(network(), "fp16", [{"wave": np.zeros((1, 3), np.float32)}])


def test_quantised_graphs_are_refused() -> None:
    nodes = [
        node("QuantizeLinear", ["wave", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    weights: dict[str, np.ndarray] = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8)}
    made = graph(nodes, weights, {"wave": (FLOAT, [2])}, {"y": [2]})
    with pytest.raises(EngineError, match="expected a float32 graph to convert to fp16, got a quantised one"):
        convert(made, "fp16", [])
    assert convert(made, "fp32", []).model == made


def test_graphs_within_graphs_are_refused() -> None:
    branch = helper.make_graph(
        [node("Identity", ["wave"], ["z"])], "b", [], [helper.make_tensor_value_info("z", FLOAT, None)]
    )
    nodes = [node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)]
    made = graph(nodes, {"flag": np.array(True)}, {"wave": (FLOAT, [2])}, {"y": [2]})
    with pytest.raises(EngineError, match="expected a graph without If, Loop, Scan and local functions, got If"):
        convert(made, "fp16", [])


def test_without_onnx_the_remedy_is_named() -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from engines.precision import convert\n"
        "try: convert(b'', 'fp16', [])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("EngineError expected the package onnx")
    assert "pip install 'emocast[tensorrt]'" in done.stdout
