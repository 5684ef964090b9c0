"""A process that records a clip, to be killed or starved by a test; see `main` for its arguments.

It prints the time of the newest item that it recorded, in ns, and what its recorder told.
"""

import resource
import sys
from pathlib import Path

from stream.recording.files import new_files
from stream.recording.recorder import Recorder
from stream.source import complete_ns
from stream.sources.media import MediaSource
from tests.recordings import PATIENT_S, settings


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")  # at once: two threads speak, and `print` would mix their lines
    sys.stdout.flush()


def main(path: str, clip: str, speed: str, lossless: str, limit_bytes: str = "") -> None:
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_bytes), resource.RLIM_INFINITY))
    with MediaSource(clip, speed=speed) as source:
        recorder = Recorder(
            new_files(Path(path)),
            settings(source.info, lossless=lossless == "True"),
            told=lambda event: say(f"{event.kind} {event.text}"),
            queue_s=PATIENT_S,
        )
        with recorder:
            for item in source:
                recorder.take(item)
                say(str(complete_ns(item)))


if __name__ == "__main__":
    main(*sys.argv[1:])
