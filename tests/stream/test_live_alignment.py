"""Picture and sound of a real camera and microphone lie together on the session's timeline, through everything."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.flash_and_click import flash_and_click
from tests.live_process import ROOT
from tests.mjpeg_server import MjpegServer
from tests.pulse import PulseServer, require_pulse

N_FLASHES = 8


@pytest.mark.timeout(120)
def test_flashes_and_clicks_of_one_instant_come_out_within_20_ms() -> None:
    require_pulse()
    with tempfile.TemporaryDirectory(prefix="emo") as folder:
        pulse = PulseServer(Path(folder), ("mic",), speaker="loud")
        clip = flash_and_click(Path(folder) / "flash.mkv", n_flashes=N_FLASHES, grain=6)
        try:
            pulse.start()
            with MjpegServer(str(clip)) as camera:
                command = [sys.executable, "-m", "tests.alignment_process", camera.url, "mic", "loud", str(N_FLASHES)]
                done = subprocess.run(
                    command, cwd=ROOT, env=os.environ | pulse.environment, capture_output=True, text=True, timeout=60
                )
        finally:
            pulse.stop()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["n_pairs"] >= N_FLASHES - 1
    assert abs(found["offset_ms"]) < 20
