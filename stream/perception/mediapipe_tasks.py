"""MediaPipe's face task, imported without what it drags in, and without its log on our stderr.

`import mediapipe` runs every task's module, and with them matplotlib and sounddevice: 0.5 s that a first estimate does
not have. Only the modules of the face task are loaded here, 0.1 s.
"""

import contextlib
import importlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

_PACKAGES = ("mediapipe", "mediapipe.tasks", "mediapipe.tasks.python", "mediapipe.tasks.python.vision")

# `INFO: [...]` of LiteRT, `W0000 00:00:...` of absl. Errors (E, F) are kept.
_CHATTER = re.compile(rb"(INFO: |WARNING: |[IW]\d{4} \d\d:\d\d:)")


class FaceTask(NamedTuple):
    """The classes of MediaPipe that a face detector needs, all untyped."""

    detector: Any
    options: Any
    base_options: Any
    image: Any
    image_format: Any


def load_face_task() -> FaceTask:
    """Import MediaPipe's face task; the whole package where somebody has imported that already.

    Raises:
        ModuleNotFoundError: If mediapipe is not installed.
    """
    if "mediapipe" not in sys.modules:
        # A version that arranges its modules otherwise is imported as a whole: slower, and as good.
        with contextlib.suppress(ModuleNotFoundError, AttributeError), hollow_packages():
            return _load_lean()
    tasks = importlib.import_module("mediapipe.tasks.python")
    package = importlib.import_module("mediapipe")
    vision = tasks.vision
    return FaceTask(
        vision.FaceDetector, vision.FaceDetectorOptions, tasks.BaseOptions, package.Image, package.ImageFormat
    )


def _load_lean() -> FaceTask:
    face = importlib.import_module("mediapipe.tasks.python.vision.face_detector")
    image = importlib.import_module("mediapipe.tasks.python.vision.core.image")
    base = importlib.import_module("mediapipe.tasks.python.core.base_options")
    # The native library is looked up through the package, so it is loaded while that is hollow.
    importlib.import_module("mediapipe.tasks.python.core.mediapipe_c_bindings").load_raw_library()
    return FaceTask(face.FaceDetector, face.FaceDetectorOptions, base.BaseOptions, image.Image, image.ImageFormat)


@contextlib.contextmanager
def hollow_packages() -> Iterator[None]:
    """Stand in for mediapipe's packages with empty ones, so that their `__init__` modules do not run."""
    spec = importlib.util.find_spec("mediapipe")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("expected the package mediapipe, found none; run: pip install 'mediapipe>=1.2,<2'")
    root = spec.submodule_search_locations[0]
    for name in _PACKAGES:
        package = ModuleType(name)
        package.__path__ = [os.path.join(root, *name.split(".")[1:])]
        sys.modules[name] = package
    try:
        yield
    finally:
        # Whoever imports mediapipe later gets the real one. The modules loaded here live on in what refers to them;
        # they are kept out of sys.modules because the real packages expect to import them themselves.
        for name in [name for name in sys.modules if name.partition(".")[0] == "mediapipe"]:
            del sys.modules[name]


@contextlib.contextmanager
def without_log_chatter() -> Iterator[None]:
    """Keep informative log lines that native code writes to file descriptor 2 off the user's terminal.

    LiteRT and absl inside MediaPipe 1.2 write some ten lines for each detector and read no environment variable that
    stops all of them. What other threads write in the meantime, and errors, are passed on at the end.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all, as in a windowed program
        yield
        return
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            log.seek(0)
            rest = b"".join(line for line in log if not _CHATTER.match(line))
            if rest:
                os.write(2, rest)
