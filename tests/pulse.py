"""A private sound server: PulseAudio with null sinks, whose monitors are microphones for PortAudio.

It has a socket, a runtime directory and a configuration of its own; a user's server is neither asked nor disturbed.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NEEDED = ("pulseaudio", "pactl", "paplay")
START_S = 20.0


def require_pulse() -> None:
    """Skip the test by name where there is no PulseAudio; with EMOCAST_REQUIRE_DEVICES=1 it fails instead."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError) as error:
        missing.append(str(error))
    if missing:
        reason = (
            f"needs {', '.join(missing)}; apt-get install pulseaudio pulseaudio-utils libasound2-plugins libportaudio2"
        )
        if os.environ.get("EMOCAST_REQUIRE_DEVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


class PulseServer:
    """A server that tests stop and start; each name is a null sink, and a microphone by that name.

    Args:
        folder: Where its socket and files lie; short, for a socket's path has at most 107 bytes.
        microphones: Names of the microphones; the first is also the default one.
        speaker: Name of an output of PortAudio that plays into the first microphone.

    Attributes:
        environment: What a program needs to be a client of it.
    """

    def __init__(self, folder: Path, microphones: tuple[str, ...], *, speaker: str | None = None) -> None:
        self._folder, self._microphones = folder, microphones
        self._socket = folder / "native"
        self._process: subprocess.Popen[bytes] | None = None
        folder.chmod(0o700)
        pcm = 'pcm.{name} {{ type pulse device "{device}.monitor" hint {{ show on }} }}\n'
        lines = pcm.format(name="!default", device=microphones[0]) + "ctl.!default { type pulse }\n"
        if speaker is not None:
            lines += f'pcm.{speaker} {{ type pulse device "{microphones[0]}" hint {{ show on }} }}\n'
        (folder / "asound.conf").write_text(lines + "".join(pcm.format(name=name, device=name) for name in microphones))
        (folder / "client.conf").write_text("autospawn = no\nenable-shm = no\n")
        self.environment = {
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_CLIENTCONFIG": str(folder / "client.conf"),
            "PULSE_COOKIE": str(folder / "cookie"),
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
        }

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        modules = [f"module-native-protocol-unix socket={self._socket} auth-anonymous=1"]
        # Without norewinds a null sink gives its first samples after two seconds.
        modules += [f"module-null-sink sink_name={name} rate=48000 norewinds=1" for name in self._microphones]
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes"]
        private = {"XDG_RUNTIME_DIR": str(self._folder), "HOME": str(self._folder), "PATH": os.environ["PATH"]}
        self._process = subprocess.Popen(
            ["pulseaudio", *options, *(part for module in modules for part in ("-L", module))],
            env=private | {"DBUS_SESSION_BUS_ADDRESS": "disabled:"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + START_S
        while self._client("pactl", "info", check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the sound server did not start (exit code {self._process.poll()})")

    def stop(self) -> None:
        """Kill the server, as an unplugged sound card would go: without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """Let the server hang: its connections stay open, and nothing comes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def play(self, microphone: str, wav: Path) -> subprocess.Popen[bytes]:
        """Begin to play a file into a microphone; returns the player."""
        return subprocess.Popen(
            ["paplay", "--latency-msec=50", "-d", microphone, str(wav)], env=os.environ | self.environment
        )

    def _client(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, env=os.environ | self.environment, capture_output=True, check=check)


@contextmanager
def pulse_server(folder: Path, *microphones: str) -> Iterator[PulseServer]:
    """A running server, stopped afterwards."""
    server = PulseServer(folder, microphones)
    try:
        server.start()
        yield server
    finally:
        server.stop()
