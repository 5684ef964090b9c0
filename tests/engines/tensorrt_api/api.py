"""One version of the bindings, described, and the check of source files against it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.engines.tensorrt_api.bindings import ROOT, Versions, environment
from tests.engines.tensorrt_api.sources import missing, overrides_nothing, silenced, touches_the_bindings, unchecked
from tests.engines.tensorrt_api.typecheck import check


@dataclass(frozen=True, kw_only=True)
class Api:
    """What a version of TensorRT and one of CUDA offer.

    Attributes:
        versions: Which.
        stubs: Folder of what mypy reads.
        names: By `trt` and `cudart`, their dotted names, and whether each has names of its own that are listed too.
        mypy_cache: What mypy learned of numpy and the rest, for all versions.
        environment: Variables with which Python imports the bindings.
    """

    versions: Versions
    stubs: Path
    names: dict[str, dict[str, bool]]
    mypy_cache: Path
    environment: dict[str, str]

    def faults(self, files: Sequence[Path]) -> list[str]:
        """`file:line: text` for all that would not work with this version, or that cannot be checked."""
        found = []
        for path, report in check(files, stubs=self.stubs, cache=self.mypy_cache).items():
            text = path.read_text()
            lines = [
                *(f"{fault} is not there" for fault in missing(text, self.names)),
                *(f"{fault} is not there to override" for fault in overrides_nothing(text, self.names)),
                *(
                    f"{fault} cannot be checked: its value has no known class"
                    for fault in unchecked(text, report.any_spans)
                ),
                *(f"{fault} hides errors from mypy" for fault in silenced(text)),
                *report.errors,
            ]
            found += [f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{line}" for line in lines]
        return found


def describe(versions: Versions, folder: Path, *, mypy_cache: Path) -> Api:
    """Fetch the bindings, import them over a stub library in a process of their own, and describe them.

    Raises:
        UnavailableError: If they cannot be had here.
    """
    libraries = folder / "libraries"
    libraries.mkdir()
    variables = environment(versions, libraries)
    command = [sys.executable, "-m", "tests.engines.tensorrt_api.describe", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"TensorRT {versions.tensorrt} cannot be described: {done.stderr}")
    names = json.loads((folder / "names.json").read_text())
    stubs = folder / "stubs"
    return Api(versions=versions, stubs=stubs, names=names, mypy_cache=mypy_cache, environment=variables)


def backend() -> list[Path]:
    """Our files that import TensorRT or CUDA."""
    files = sorted(path for room in ("engines", "tools") for path in (ROOT / room).rglob("*.py"))
    return [path for path in files if touches_the_bindings(path.read_text())]
