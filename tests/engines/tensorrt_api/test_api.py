"""Our TensorRT backend uses what the real bindings have, as they have it; a misspelling would be found."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.tensorrt_api.api import Api, backend
from tests.engines.tensorrt_api.bindings import ROOT, VERSIONS

TENSORRT = ROOT / "engines" / "tensorrt"


def test_the_backend_uses_what_the_bindings_have(api: Api) -> None:
    assert api.faults(backend()) == []


def test_every_file_of_the_backend_is_looked_at() -> None:
    assert {TENSORRT / f"{name}.py" for name in ("build", "cuda", "library", "run")} <= set(backend())


# planted mistakes: a line of source, and how what is said of it begins

PLANTED = [
    ("trt.Bilder(trt.Logger())", "trt.Bilder is not there"),
    ("trt.Bilder(trt.Logger())", 'Module has no attribute "Bilder"'),
    ("trt.BuilderFlag.TF23", "trt.BuilderFlag.TF23 is not there"),
    ("trt.ILogger.Severity.WARN", "trt.ILogger.Severity.WARN is not there"),
    ("builder.create_netwrok(0)", '"Builder" has no attribute "create_netwrok"'),
    ("builder.create_builder_config(0)", 'Too many arguments for "create_builder_config" of "Builder"'),
    ("config.builder_optimisation_level = 3", '"IBuilderConfig" has no attribute "builder_optimisation_level"'),
    ("config.builder_optimization_level = '3'", 'Incompatible types in assignment (expression has type "str"'),
    ("config.set_timing_cache(cache, ignore_mismatches=False)", 'Unexpected keyword argument "ignore_mismatches"'),
    ("trt.OnnxParser(config, trt.Logger())", 'Argument 1 to "OnnxParser" has incompatible type "IBuilderConfig"'),
    ("parser.get_error(0).dsc()", '"ParserError" has no attribute "dsc"'),
    ("runtime.deserialize_cuda_engine('plan')", 'No overload variant of "deserialize_cuda_engine" of "Runtime"'),
    ("cudart.cudaMallocPinned(1)", "cudart.cudaMallocPinned is not there"),
    ("cudart.cudaMemcpyKind.cudaMemcpyHostToGpu", "cudart.cudaMemcpyKind.cudaMemcpyHostToGpu is not there"),
    ("cudart.cudaMemcpyAsync(1, 2, 3, kind)", 'Missing positional argument "stream" in call to "cudaMemcpyAsync"'),
    ("cudart.cudaMemcpyAsync(1, 2, 3, 1, 0)", 'Argument 4 to "cudaMemcpyAsync" has incompatible type "int"'),
    ("status, value = cudart.cudaFree(1)", "Need more than 1 value to unpack (2 expected)"),
    ("properties.majr", '"cudaDeviceProp" has no attribute "majr"'),
    ("unknown.create_network()", "unknown.create_network cannot be checked: its value has no known class"),
    ("builder.rset()  # type: ignore[attr-defined]", "builder.rset()  # type: ignore[attr-defined] hides errors"),
]
RIGHT = [
    "builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))",
    "config.set_timing_cache(config.create_timing_cache(b''), ignore_mismatch=False)",
    "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 2**30)",
    "sizes = [size + 1 for size in tuple(runtime.deserialize_cuda_engine(b'').get_tensor_shape('crop'))]",
    "bytes(config.get_timing_cache().serialize())",
    "status, address = cudart.cudaMalloc(1)",
    "text = f'{properties.name} {properties.major}.{properties.minor}'",
    "trt.nptype(trt.float32), trt.__version__",
]
HEAD = """\
from typing import Any
import tensorrt as trt
from cuda.bindings import runtime as cudart
def use(
    builder: trt.Builder, config: trt.IBuilderConfig, cache: trt.ITimingCache, parser: trt.OnnxParser,
    runtime: trt.Runtime, kind: cudart.cudaMemcpyKind, properties: cudart.cudaDeviceProp, unknown: Any
) -> None:
"""


def source(lines: list[str]) -> str:
    return HEAD + "".join(f"    {line}\n" for line in lines)


def test_planted_mistakes_are_found(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text(source([line for line, _ in PLANTED]))
    found = api.faults([path])
    for k, (line, said) in enumerate(PLANTED, HEAD.count("\n") + 1):
        assert any(fault.startswith(f"planted.py:{k}: {said}") for fault in found), (k, line, found)


def test_what_is_right_is_let_pass(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "right.py"
    path.write_text(source(RIGHT))
    assert api.faults([path]) == []


def test_a_flag_that_tensorrt_11_removed_is_found_under_11_alone(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "flag.py"
    path.write_text(source(["config.set_flag(trt.BuilderFlag.FP16)"]))
    found = {fault.partition(";")[0] for fault in api.faults([path])}
    at = HEAD.count("\n") + 1
    gone = {
        f"flag.py:{at}: trt.BuilderFlag.FP16 is not there",
        f'flag.py:{at}: "type[BuilderFlag]" has no attribute "FP16"  [attr-defined]',
    }
    assert found == (gone if api.versions.tensorrt.startswith("11.") else set())


MISTAKES = [
    ("build.py", "create_optimization_profile()", "create_optimisation_profile()"),
    ("build.py", "trt.MemoryPoolType.WORKSPACE", "trt.MemoryPoolType.WORKSPACES"),
    ("build.py", "def step_complete(", "def step_completed("),
    ("run.py", "execute_async_v3(", "execute_async_v2("),
    ("library.py", "trt.ILogger.Severity.WARNING", "trt.ILogger.Severity.WARN"),
    ("cuda.py", "cudaGraphInstantiate(graph, 0)", "cudaGraphInstantiate()"),
]


def test_mistakes_in_the_backend_itself_are_found(api: Api, tmp_path: Path) -> None:
    lines = {}
    for k, (file, right, wrong) in enumerate(MISTAKES):
        before, found, after = (TENSORRT / file).read_text().partition(right)
        assert found, f"{file} has no {right} any more: name another here"
        path = tmp_path / f"mistake_{k}.py"
        path.write_text(before + wrong + after)
        lines[path] = before.count("\n") + 1
    faults = api.faults(list(lines))
    for (path, line), mistake in zip(lines.items(), MISTAKES, strict=True):
        assert any(fault.startswith(f"{path.name}:{line}: ") for fault in faults), (mistake, faults)


@pytest.mark.parametrize("api", VERSIONS[:1], indirect=True, ids=lambda versions: versions.tensorrt)
def test_whichever_attribute_is_misspelt_it_is_found(api: Api, tmp_path: Path) -> None:
    known = {name.rpartition(".")[2] for names in api.names.values() for name in names}
    mutants = {}
    for file in backend():
        for name, (line, text) in misspelt(file.read_text(), known).items():
            path = tmp_path / f"mutant_{len(mutants)}.py"
            path.write_text(text)
            mutants[f"{path.name}:{line}"] = f"{file.name}:{line}: {name}"
    assert len(mutants) > 50
    faults = api.faults([tmp_path / where.partition(":")[0] for where in mutants])
    found = {":".join(fault.split(":")[:2]) for fault in faults}
    assert [mutant for where, mutant in mutants.items() if where not in found] == []


def misspelt(text: str, known: set[str]) -> dict[str, tuple[int, str]]:
    """By attribute, as it is used first: its line, and the source with a letter added to it there."""
    lines = text.encode().splitlines(keepends=True)
    found: dict[str, tuple[int, str]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr in known and ast.unparse(node.value) != "self":
            line, column = node.end_lineno or 0, node.end_col_offset or 0
            wrong = lines[line - 1][:column] + b"x" + lines[line - 1][column:]
            source = b"".join([*lines[: line - 1], wrong, *lines[line:]]).decode()
            found.setdefault(ast.unparse(node), (line, source))
    return found


# what the stubs take for granted


def test_the_stub_library_makes_nothing_and_shapes_are_walked_through(api: Api) -> None:
    code = (
        "import tensorrt_bindings as trt\n"
        "print(trt.__version__, list(trt.Dims((2, 3))))\n"
        "for make in (trt.Builder, trt.Runtime):\n"
        "    try: make(trt.Logger())\n"
        "    except TypeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=api.environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"{api.versions.tensorrt} [2, 3]",
        "pybind11::init(): factory function returned nullptr",
        "pybind11::init(): factory function returned nullptr",
    ]
