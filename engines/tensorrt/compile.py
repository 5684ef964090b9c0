"""Compiles the graphs of a bundle, each in a process of its own, or finds the plans that were built before."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec

from engines.bundle import Bundle
from engines.engine import EngineError
from engines.tensorrt.build import BuildOptions
from engines.tensorrt.cuda import Gpu
from engines.tensorrt.plans import Key, PlanStore, Record, key_of
from engines.tensorrt.run import TensorRTEngine

Progress = Callable[[str, str, int, int], None]  # stage, phase, steps done, steps in all


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the builder's process is told: a stage of the bundle in a folder, for a key, into a store."""

    bundle: str
    stage: str
    store: str
    key: Key


def compiled(
    bundle: Bundle,
    stage: str,
    options: BuildOptions,
    store: PlanStore,
    *,
    gpu: Gpu,
    tensorrt: str,
    progress: Progress | None = None,
    anew: bool = False,
) -> Record:
    """The record of a stage's plan, built where there is none that loads.

    Args:
        bundle: The recogniser.
        stage: Of it.
        options: How to build.
        store: Where plans are kept.
        gpu: As `library.probe` found it.
        tensorrt: Its version.
        progress: Told how far the builder is.
        anew: Build also where there is one.

    Returns:
        Of an accepted plan, or of one that was refused: see `Record.accepted`.

    Raises:
        EngineError: If it cannot be built; the text says why.
    """
    key = key_of(bundle.stage(stage), options, gpu, tensorrt)
    with store.building(key):
        record = store.record(key)  # also what another process built while this one waited
        if record is not None and not anew and _loads(store, record):
            return record
        store.forget(key)
        request = Request(bundle=str(bundle.folder.resolve()), stage=stage, store=str(store.folder.resolve()), key=key)
        return _build(request, (lambda p, d, o: progress(stage, p, d, o)) if progress else lambda *_: None)


def _loads(store: PlanStore, record: Record) -> bool:
    try:
        TensorRTEngine(store.plan(record), capture=False).close()
    except EngineError:
        return False
    return True


def _build(request: Request, progress: Callable[[str, int, int], None]) -> Record:
    command = [sys.executable, "-m", "engines.tensorrt.worker"]
    root = Path(__file__).parents[2]  # where `engines` is found, wherever this process was started
    with (
        TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, cwd=root) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(request))
            process.stdin.close()
            result: dict[str, Any] = {}
            for line in process.stdout:
                result = _heard(line) or result
                if "phase" in result:
                    progress(result["phase"], result["done"], result["of"])
        except BaseException:
            process.kill()  # an interrupted command leaves no builder behind
            raise
        code = process.wait()
        said.seek(0)
        last = " ".join(said.read()[-2000:].decode(errors="replace").split())[-300:]
    if "record" in result:
        return msgspec.convert(result["record"], Record)
    if "error" in result:
        raise EngineError(f"stage {request.stage}: {result['error']}")
    raise EngineError(
        f"stage {request.stage}: the builder's process ended with code {code} and no plan"
        f"{f': {last}' if last else ''}; is the GPU's or this machine's memory full?"
    )


def _heard(line: bytes) -> dict[str, Any]:
    try:
        heard = msgspec.json.decode(line)
    except msgspec.DecodeError:  # libraries print, too
        return {}
    return heard if isinstance(heard, dict) else {}
