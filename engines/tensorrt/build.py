"""Compiles an ONNX graph to a TensorRT plan. Runs in a process of its own (`worker`): a builder may take it down."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import EngineError
from engines.precision import PRECISIONS, Precision
from engines.tensorrt.library import failed, logger
from engines.whole_file import write_whole

if TYPE_CHECKING:
    import tensorrt as trt

BUILDER_VERSION = 1  # counts changes of this file and of `engines.precision` that make other plans
Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How graphs are compiled.

    Attributes:
        precision: What learned layers compute in; front ends, normalisations and softmax stay in float32.
        batch: Batch sizes, each a profile of its own, `1,4,16` for example.
        workspace_mb: Scratch memory that a kernel may take.
        level: TensorRT's optimisation level, 0 to 5: higher searches longer.
    """

    precision: Precision = "fp32"
    batch: str = "1,4,16"
    workspace_mb: int = 1024
    level: int = 3

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected {', '.join(PRECISIONS)}, got {self.precision!r}")
        _ = self.batches  # refuses what is none
        if self.workspace_mb < 1:
            raise ValueError(f"workspace_mb: expected 1 or more, got {self.workspace_mb}")
        if not 0 <= self.level <= 5:
            raise ValueError(f"level: expected 0 to 5, got {self.level}")

    @property
    def batches(self) -> tuple[int, ...]:
        """`batch` as numbers.

        Raises:
            ValueError: If they are not ascending sizes of 1 or more.
        """
        return batches_of(self.batch)


def build(
    graph: bytes, options: BuildOptions, *, timing_cache: Path | None = None, progress: Progress | None = None
) -> bytes:
    """Compile a graph.

    Args:
        graph: ONNX, in the precision that it shall compute in; every input's first axis is the batch, all else fixed.
        options: How; `precision` is the graph's own matter by now.
        timing_cache: File of kernels timed before; read where it fits this GPU and TensorRT, and written.
        progress: Told of the builder's phases, from any thread.

    Raises:
        EngineError: If TensorRT does not take the graph, or has no plan for it within the workspace.
    """
    import tensorrt as trt

    builder = trt.Builder(logger())
    # By name: the flag is 1 in TensorRT 10 and 0 in 11, where it is the only mode.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    config = builder.create_builder_config()
    if network is None or config is None:
        raise failed("the builder made no network")
    _parse(network, graph)
    _configure(config, options, progress)
    for size in options.batches:
        _add_profile(builder, network, config, size)
    _read_timing(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise failed(f"no plan within {options.workspace_mb} MB of workspace; try --workspace-mb or another precision")
    _write_timing(config, timing_cache)
    return bytes(plan)


def _parse(network: "trt.INetworkDefinition", graph: bytes) -> None:
    import tensorrt as trt

    parser = trt.OnnxParser(network, logger())
    if not parser.parse(graph):
        errors = [parser.get_error(k) for k in range(parser.num_errors)]
        lines = [f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors]
        raise failed(" ".join(["the graph was refused", *"; ".join(lines).split()]))
    if network.num_inputs < 1 or network.num_outputs < 1:
        raise failed("the graph has no input or no output")


def _configure(config: "trt.IBuilderConfig", options: BuildOptions, progress: Progress | None) -> None:
    import tensorrt as trt

    # TF32 would round the factors of float32 products to ten bits, which is not what `fp32` says.
    config.clear_flag(trt.BuilderFlag.TF32)
    n_bytes = options.workspace_mb * 2**20
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, n_bytes)
    if config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) > n_bytes:  # a bad value is ignored in silence
        raise failed(f"a workspace of {options.workspace_mb} MB was refused")
    config.builder_optimization_level = options.level
    if progress is not None:
        config.progress_monitor = _monitor(progress)


def _add_profile(
    builder: "trt.Builder", network: "trt.INetworkDefinition", config: "trt.IBuilderConfig", size: int
) -> None:
    profile = builder.create_optimization_profile()
    for k in range(network.num_inputs):
        tensor = network.get_input(k)
        shape = tuple(int(length) for length in tensor.shape)
        if not shape or shape[0] != -1 or min(shape[1:], default=0) < 0:
            raise EngineError(f"expected a free batch axis alone, {tensor.name} is {shape}; export the bundle again")
        exact = (size, *shape[1:])
        profile.set_shape(tensor.name, exact, exact, exact)
    if config.add_optimization_profile(profile) < 0:
        raise failed(f"the profile of batch {size} is not valid")


def _read_timing(config: "trt.IBuilderConfig", path: Path | None) -> None:
    kept = b"" if path is None or not path.is_file() else path.read_bytes()
    cache = config.create_timing_cache(kept)
    # One of another GPU or version must not steer the choice of kernels: begin anew.
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _write_timing(config: "trt.IBuilderConfig", path: Path | None) -> None:
    cache = config.get_timing_cache()
    if path is not None and cache is not None:
        write_whole(path, bytes(cache.serialize()))


def _monitor(progress: Progress) -> "trt.IProgressMonitor":
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self._steps.get(phase_name, step + 1))
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            steps = self._steps.pop(phase_name, 0)
            progress(phase_name, steps, steps)

    return Monitor()


def batches_of(text: str) -> tuple[int, ...]:
    """Batch sizes like `1,4,16` as numbers.

    Raises:
        ValueError: If they are not ascending sizes of 1 or more.
    """
    parts = text.split(",")
    sizes = tuple(int(part) for part in parts if part.isdecimal())
    if len(sizes) != len(parts) or list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
        raise ValueError(f"batch: expected ascending sizes of 1 or more like 1,4,16, got {text!r}")
    return sizes
