"""Plans that were built and accepted, kept in the user's cache.

A plan belongs to one graph, TensorRT version, GPU, set of options and builder version; its record says all of that, and
what its acceptance found. Plan and record appear whole or not at all, and one process builds a plan while others wait
for it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock

from engines.cache_folder import cache_folder
from engines.engine import EngineError
from engines.precision import Precision
from engines.tensorrt.build import BUILDER_VERSION, BuildOptions
from engines.tensorrt.cuda import Gpu
from engines.whole_file import write_whole


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan is of. The graph by its SHA-256; `gpu` is its name with its compute capability."""

    graph: str
    tensorrt: str
    gpu: str
    precision: Precision
    batches: tuple[int, ...]
    workspace_mb: int
    level: int
    builder: int = BUILDER_VERSION

    @property
    def name(self) -> str:
        """The stem of its files."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:24]

    @property
    def options(self) -> BuildOptions:
        """How it is built."""
        batch = ",".join(map(str, self.batches))
        return BuildOptions(precision=self.precision, batch=batch, workspace_mb=self.workspace_mb, level=self.level)


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a plan.

    Attributes:
        key: What it is of.
        plan: SHA-256 of the plan's bytes.
        accepted: Whether it reproduced the ONNX graph on this GPU.
        why: Why not, or the largest difference, in words.
        differences: Largest difference from the ONNX graph, by output.
        tolerance: That they were held against.
        batch_ms: Median milliseconds of a call, by batch size.
        built_s: How long it took to build.
        built: When, seconds since 1970: of several accepted plans of a graph the newest serves.
    """

    key: Key
    plan: str
    accepted: bool
    why: str
    differences: dict[str, float]
    tolerance: float
    batch_ms: dict[str, float]
    built_s: float
    built: float


def key_of(graph: Path, options: BuildOptions, gpu: Gpu, tensorrt: str) -> Key:
    """The key of a graph's plan."""
    return Key(
        graph=hashlib.sha256(graph.read_bytes()).hexdigest(),
        tensorrt=tensorrt,
        gpu=f"{gpu.name} {gpu.capability}",
        precision=options.precision,
        batches=options.batches,
        workspace_mb=options.workspace_mb,
        level=options.level,
    )


class PlanStore:
    """The folder of plans. Several processes may use it at once.

    Args:
        folder: Where; None is `plans` in the cache folder of emocast.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder("plans") if folder is None else folder

    @property
    def timing_cache(self) -> Path:
        """The file of kernels that the builder timed before."""
        return self.folder / "timing.cache"

    def record(self, key: Key) -> Record | None:
        """What is known of a plan; None where there is none, or its record cannot be read."""
        return _read(self._record_path(key))

    def newest(self, graph: str, gpu: Gpu, tensorrt: str) -> Record | None:
        """The accepted plan of a graph that was built last for this GPU and TensorRT; without one, a refused one.

        Args:
            graph: Its SHA-256.
        """
        there = [
            record
            for path in self.folder.glob("*.json")
            if (record := _read(path)) is not None
            and (record.key.graph, record.key.tensorrt, record.key.gpu, record.key.builder)
            == (graph, tensorrt, f"{gpu.name} {gpu.capability}", BUILDER_VERSION)
        ]
        return max(there, key=lambda record: (record.accepted, record.built), default=None)

    def plan(self, record: Record) -> bytes:
        """The plan of a record.

        Raises:
            EngineError: If it is not there, or not what was built.
        """
        path = self.folder / f"{record.key.name}.plan"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EngineError(f"expected a plan at {path}, it cannot be read ({error.strerror})") from error
        if self.digest(content) != record.plan:
            raise EngineError(f"expected the plan that was built at {path}, it was changed or damaged")
        return content

    @staticmethod
    def digest(plan: bytes) -> str:
        """The SHA-256 that a record names a plan by."""
        return hashlib.sha256(plan).hexdigest()

    def keep(self, record: Record, plan: bytes) -> None:
        """Write a plan and its record; the record last, since it vouches for the plan.

        Raises:
            EngineError: If the folder cannot be written.
        """
        try:
            write_whole(self.folder / f"{record.key.name}.plan", plan)
            write_whole(self._record_path(record.key), msgspec.json.format(msgspec.json.encode(record), indent=1))
        except OSError as error:
            raise EngineError(
                f"cannot write {self.folder}: {error.strerror}; make room, or set EMOCAST_CACHE to another folder"
            ) from error

    def forget(self, key: Key) -> None:
        """Take a plan and its record away."""
        self._record_path(key).unlink(missing_ok=True)
        (self.folder / f"{key.name}.plan").unlink(missing_ok=True)

    @contextmanager
    def building(self, key: Key) -> Iterator[None]:
        """While a plan is built: who else wants to build it waits. The lock goes with the process that holds it.

        Raises:
            EngineError: If the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f"{key.name}.lock")
            lock.acquire()
        except OSError as error:
            raise EngineError(
                f"cannot write {self.folder}: {error.strerror}; set EMOCAST_CACHE to a folder that can be written"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _record_path(self, key: Key) -> Path:
        return self.folder / f"{key.name}.json"


def _read(path: Path) -> Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):  # of another version of emocast, or none: as good as not there
        return None
