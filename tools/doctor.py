"""`emocast doctor`: what is here, what is missing, and the command that gets it."""

import ctypes
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from engines.bundle import Bundle, load, shipped
from engines.cache_folder import cache_folder
from engines.engine import EngineError
from engines.select import Engines
from engines.tensorrt.cuda import INSTALL, gpu
from engines.tensorrt.library import TensorRTError, probe
from engines.tensorrt.plans import PlanStore
from stream.perception.networks import NETWORKS
from stream.sources.cameras.listing import CAN_BE_OPENED, list_cameras
from stream.sources.errors import SourceError
from stream.sources.microphones.finding import list_microphones
from tools.errors import DONE, MISUSE

LIBRARIES = ("numpy", "av", "mediapipe", "onnxruntime", "pyzmq", "msgspec", "soxr", "sounddevice")
TAKEN = "a lossless recording takes some 5 GB an hour at 360 x 288, 15 GB at 640 x 480"
LEAST_GB = 2.0  # under it a recording of some minutes may not fit
TENSORRT = ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: `fine`, `missing` (emocast cannot run) or `absent` (it runs without)."""

    what: str
    state: str
    text: str


def doctor() -> int:
    """Look at everything and print it. Returns the exit code: 0, or 2 where something that is needed is missing."""
    findings = [finding for look in LOOKS for finding in look()]
    table = Table("", "what", Column("found", overflow="fold"), box=None, pad_edge=False)  # paths stay whole
    signs = {"fine": "[green]ok[/green]", "missing": "[red]missing[/red]", "absent": "[yellow]absent[/yellow]"}
    for finding in findings:
        table.add_row(signs[finding.state], finding.what, escape(finding.text))
    Console(highlight=False).print(table)
    return MISUSE if any(finding.state == "missing" for finding in findings) else DONE


def look_at_python() -> Iterator[Finding]:
    """Python and the libraries that every command needs."""
    yield Finding(what="python", state="fine", text=f"{platform.python_version()} on {platform.platform()}")
    for name in LIBRARIES:
        found = _installed(name)
        text = found or f"not installed; run: {sys.executable} -m pip install {name}"
        yield Finding(what=name, state="fine" if found else "missing", text=text)


def look_at_networks() -> Iterator[Finding]:
    """The networks that perception fetches at first use."""
    for name in NETWORKS:
        path = cache_folder("networks") / f"{name}.tflite"
        there = path.is_file()
        text = str(path) if there else "not fetched yet: the first command that needs it does, from the package index"
        yield Finding(what=f"network {name}", state="fine" if there else "absent", text=text)


def look_at_gpu() -> Iterator[Finding]:
    """What the GPU path needs, part by part: each is named also where another is missing."""
    import onnxruntime as ort

    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in ort.get_available_providers())
    yield Finding(what="ONNX Runtime runs on", state="fine", text=providers)
    yield _driver()
    bindings = _installed("cuda-bindings")
    yield Finding(what="CUDA bindings", state=_state(bindings), text=bindings or f"not installed; run: {INSTALL}")
    try:
        found = gpu()
        text = f"{found.name}, compute capability {found.capability}, driver for CUDA {found.driver}"
        yield Finding(what="NVIDIA GPU", state="fine", text=text)
    except EngineError as error:
        yield Finding(what="NVIDIA GPU", state="absent", text=str(error))
    yield _tensorrt()


def _driver() -> Finding:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        text = f"{name} is not there: install NVIDIA's driver, 580 or newer, from https://www.nvidia.com/drivers"
        return Finding(what="NVIDIA driver", state="absent", text=text)
    return Finding(what="NVIDIA driver", state="fine", text=f"{name} loads")


def _tensorrt() -> Finding:
    package = next((name for name in TENSORRT if _installed(name)), None)
    try:
        return Finding(what="TensorRT", state="fine", text=probe()[1])
    except TensorRTError as error:  # its own fault: missing, of another version, or it does not load
        return Finding(what="TensorRT", state="absent", text=str(error))
    except EngineError:  # what it needs is missing, and was named above
        if package is None:
            return Finding(what="TensorRT", state="absent", text=f"not installed; run: {INSTALL}")
        text = f"{package} {_installed(package)} is installed, and not tried without a GPU"
        return Finding(what="TensorRT", state="absent", text=text)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _state(found: str) -> str:
    return "fine" if found else "absent"


def look_at_engines() -> Iterator[Finding]:
    """What `--engine auto` takes for each shipped bundle, and why."""
    for name in shipped():
        bundle: Bundle = load(name)
        with Engines("auto") as engines:
            choice = engines.choose(bundle)
        yield Finding(what=f"engine of {name}", state="fine", text=f"{choice.backend}, {choice.why}")
    store = PlanStore()
    n_plans = len(list(store.folder.glob("*.plan"))) if store.folder.is_dir() else 0
    yield Finding(what="plans", state="fine", text=f"{n_plans} in {store.folder}")


def look_at_devices() -> Iterator[Finding]:
    """The cameras that may be opened, the library for microphones, and the microphones; none is opened."""
    cameras = list_cameras()
    for camera in cameras:
        state = "fine" if camera.permission == CAN_BE_OPENED else "absent"
        yield Finding(what=f"camera {camera.index}", state=state, text=f"{camera.name}: {camera.permission}")
    if not cameras:
        yield Finding(what="camera", state="absent", text="none; a network camera goes by its URL: --camera URL")
    try:
        microphones = [microphone.name for microphone in list_microphones()]
    except SourceError as error:
        yield Finding(what="microphones", state="absent", text=str(error))
        return
    text = ", ".join(microphones) or "none that PortAudio knows; see the system's sound settings"
    yield Finding(what="microphones", state="fine" if microphones else "absent", text=text)


def look_at_machine() -> Iterator[Finding]:
    """Room for a recording, and the clock that stamps."""
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    state = "fine" if free_gb > LEAST_GB else "absent"
    yield Finding(what="disk", state=state, text=f"{free_gb:.0f} GB free here; {TAKEN}")
    clock = time.get_clock_info("monotonic")
    text = f"{clock.implementation}, resolution {clock.resolution * 1e9:.0f} ns"
    yield Finding(what="clock", state="fine", text=text)


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    look_at_python,
    look_at_networks,
    look_at_devices,
    look_at_machine,
    look_at_gpu,
    look_at_engines,
)
