"""Which ONNX operators TensorRT's parser takes, and with what restrictions: what can be said before anything is built.

From the support matrix of onnx-tensorrt, `docs/operators.md` for TensorRT 10.15 (opsets 9 to 24; 11.x adds opset 25),
less what its changelog says came after 10.13 (Attention in 10.14; RMSNormalization, RotaryEmbedding and TensorScatter
in 10.15), so that it holds from 10.13 to 11.x. NonZero and NonMaxSuppression are left out as well: the shapes of their
results depend on values, and a plan with fixed buffers has no place for them. A convolution or pool over one axis is
taken where the matrix says "2D or 3D only": the parser gives it a second axis.
"""

from collections.abc import Callable, Mapping
from typing import Any

from engines.precision.graph import library, loaded, types_of

OPSETS = range(9, 25)
_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BlackmanWindow Cast
    CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv
    DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization GRU HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If InstanceNormalization
    IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization LpPool
    MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or Pad Pow PRelu
    QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Resize ReverseSequence RNN RoiAlign Round STFT Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid
    Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
    ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS = frozenset(_NAMES.split())
RESIZES = {
    "mode": ("nearest", "linear"),
    "coordinate_transformation_mode": (
        "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners",
    ),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    "keep_aspect_ratio_policy": ("stretch",),
    "antialias": (0,),
}  # fmt: skip
CONSTANT_INPUTS = {"CumSum": 1, "OneHot": 1, "Squeeze": 1, "Unsqueeze": 1}  # place of the input that is a constant
Attributes = Mapping[str, Any]


def unsupported(graph: Any) -> list[str]:
    """One line for each node or tensor that TensorRT would not take; none where it takes the graph.

    Args:
        graph: Bytes of it, or an `onnx.ModelProto`.

    Raises:
        EngineError: If `onnx` is not installed, or the graph cannot be read.
    """
    onnx = library()
    model = loaded(graph)
    opset = {entry.domain: entry.version for entry in model.opset_import}.get("", 0)
    found = [] if opset in OPSETS else [f"opset {opset}, TensorRT takes {OPSETS.start} to {OPSETS.stop - 1}"]
    constants = {weight.name for weight in model.graph.initializer}
    constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    types = types_of(model, strict=False)
    for node in model.graph.node:
        attributes = {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in node.attribute}
        for why in (_restriction(node, attributes, constants), _type_of(node, types)):
            if why:
                found.append(f"{node.op_type} that gives {node.output[0]}: {why}")
                break
    return found


def _restriction(node: Any, attributes: Attributes, constants: set[str]) -> str:
    kind = node.op_type
    if node.domain not in ("", "ai.onnx"):
        return f"no operator of domain {node.domain} is taken"
    if kind not in OPERATORS:
        return "the operator is not taken"
    place = CONSTANT_INPUTS.get(kind, 1 if kind.startswith("Reduce") else 0)
    if place and len(node.input) > place and node.input[place] and node.input[place] not in constants:
        return f"its input {node.input[place]} must be a constant"
    return _CHECKS.get(kind, _nothing)(node, attributes)


def _nothing(node: Any, attributes: Attributes) -> str:
    return ""


def _one_output(node: Any, attributes: Attributes) -> str:
    return "it may have one output" if len([name for name in node.output if name]) > 1 else ""


def _window(node: Any, attributes: Attributes) -> str:
    if len(attributes.get("kernel_shape", (1,))) > 3:
        return f"a window of {len(attributes['kernel_shape'])} axes, at most 3 are taken"
    if node.op_type in ("AveragePool", "LpPool", "MaxPool") and set(attributes.get("dilations", ())) - {1}:
        return f"dilations {attributes['dilations']}, pools take 1 alone"
    return _one_output(node, attributes)


def _normalises(node: Any, attributes: Attributes) -> str:
    return "training_mode must be 0" if attributes.get("training_mode") else _one_output(node, attributes)


def _recurs(node: Any, attributes: Attributes) -> str:
    wrong = [name for name in ("input_forget", "layout") if attributes.get(name)]
    return f"{wrong[0]} must be 0" if wrong else ""


def _resizes(node: Any, attributes: Attributes) -> str:
    for name, taken in RESIZES.items():
        value = attributes.get(name, taken[0])
        if value not in taken:
            return f"{name} {value}, taken are {', '.join(map(str, taken))}"
    return ""


def _scatters(node: Any, attributes: Attributes) -> str:
    reduction = attributes.get("reduction", "none")
    return f"reduction {reduction}, taken is none" if reduction != "none" else ""


def _sorts(node: Any, attributes: Attributes) -> str:
    return "sorted must be 1" if attributes.get("sorted", 1) != 1 else ""


_CHECKS: dict[str, Callable[[Any, Attributes], str]] = {
    **dict.fromkeys(("AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool"), _window),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _recurs),
    "BatchNormalization": _normalises,
    "LayerNormalization": _one_output,
    "Resize": _resizes,
    "ScatterND": _scatters,
    "TopK": _sorts,
}


def _type_of(node: Any, types: Mapping[str, int]) -> str:
    # uint8 comes in and goes out, and nothing but a cast reads it; numbers of other kinds are not taken at all.
    names = library().TensorProto
    taken = {names.FLOAT, names.FLOAT16, names.BFLOAT16, names.INT32, names.INT64, names.BOOL, names.INT8, 0}
    for name in (*node.input, *node.output):
        kind = types.get(name, 0)
        if kind == names.UINT8 and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return f"it takes int8 about 0, {name} is uint8"
        if kind == names.UINT8 and node.op_type not in ("Cast", "CastLike"):
            return f"it takes no uint8, which {name} is; cast it first"
        if kind not in taken | {names.UINT8}:
            return f"{name} is {names.DataType.Name(kind).lower()}, which is not taken"
    return ""


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
