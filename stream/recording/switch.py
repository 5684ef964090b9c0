"""Recordings that begin and end while a session runs: one at a time, each with files of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

import zmq

from stream.feed.messages import Message, Session, encode
from stream.line_file import LineFile
from stream.recording.files import FLUSH_S, RecordingError, RecordingFiles, named_files
from stream.recording.recorder import Recorder
from stream.recording.settings import RecordedSession
from stream.records import SourceEvent, SourceInfo
from stream.source import Item
from stream.windows import NS_PER_S

STOPPED = "it was stopped, and the session went on"


class MakeSettings(Protocol):
    """Makes the settings of a recording, as `stream.recording.settings.settings_of` does."""

    def __call__(self, info: SourceInfo, *, lossless: bool, began_s: float | None) -> RecordedSession:
        """Of this source; begun at so many media seconds, or with the session where that is None."""


class RecordingSwitch:
    """Passes what a session analyses and publishes on to the recording that runs, if one does.

    It is a witness of the session (`witness`) and a sink of its feed, and any thread may switch it meanwhile. From the
    item at which a recording begins to the one at which it is stopped it gets every one: none is lost and none is torn.

    Args:
        folder: Where recordings that are asked for by name go.
        settings: Makes the settings of a recording.
        tell: Publishes an event.
        first: Files of a recording that begins with the session; None begins none.
        lossless: Whether that one is lossless.

    Attributes:
        broken: One line for each recording that ended by itself, on a full disk for example.
    """

    def __init__(
        self,
        folder: Path,
        settings: MakeSettings,
        *,
        tell: Callable[[SourceEvent], None],
        first: RecordingFiles | None = None,
        lossless: bool = False,
    ) -> None:
        self.broken: tuple[str, ...] = ()
        self._folder, self._settings, self._tell = folder, settings, tell
        self._first, self._lossless = first, lossless
        # Guards what is written to a feed file, and which recording runs; who writes may find that it must end.
        self._lock = threading.RLock()
        self._current: _Running | None = None
        self._info: SourceInfo | None = None  # while the session runs
        self._session: Session | None = None
        self._closers: list[threading.Thread] = []

    # --- what is asked for; any thread ---

    @property
    def recording(self) -> str | None:
        """Name of the recording that runs, or None."""
        current = self._current
        return None if current is None else current.files.film.name

    def record(self, name: str, *, lossless: bool, t_ns: int) -> None:
        """Begin a recording of that name with the next item; media time is `t_ns`.

        Raises:
            RecordingError: If one runs already, the session has not begun or has ended, the name is not a plain one of
                a new file, or the files cannot be created.
        """
        if self._info is None:
            raise RecordingError("expected a session that runs, this one has not begun or has ended; ask again")
        if self.recording is not None:
            raise RecordingError(f"{self.recording} is being recorded already; stop that first (stop-recording)")
        files = named_files(self._folder, name)
        self._begin(self._info, files, lossless=lossless, began_s=t_ns / NS_PER_S)
        self._tell(SourceEvent(t_ns=t_ns, kind="recording_started", text=f"{name} is being recorded"))

    def stop(self, *, t_ns: int) -> None:
        """End the recording that runs; its files are finished meanwhile, and then an event says so.

        Raises:
            RecordingError: If none runs.
        """
        current = self._detach()
        if current is None:
            raise RecordingError("expected a recording that runs, there is none; begin one first (record FILE.mkv)")
        self._finish(current, stopped_ns=t_ns)

    # --- a witness of the session ---

    @contextmanager
    def witness(self, info: SourceInfo) -> Iterator[Self]:
        """What sees the items of this source, for as long as the block runs; the recording's film ends with it.

        Raises:
            RecordingError: If the files of the first recording cannot be created.
        """
        if self._first is not None:
            self._begin(info, self._first, lossless=self._lossless, began_s=None)
        self._info = info
        try:
            yield self
        finally:
            self._info = None
            if (current := self._current) is not None:
                current.recorder.close()  # the feed says more: its file ends with the feed
            self._await_closers()

    def take(self, item: Item) -> None:
        """An item of the source. Capture thread."""
        current = self._current
        if current is not None:
            current.recorder.take(item)

    def note(self, kind: str, value: int) -> None:
        """What the session decided. Any thread."""
        current = self._current
        if current is not None:
            current.recorder.note(kind, value)

    # --- a sink of the feed, on the feed's thread ---

    def open(self) -> None:
        """There is nothing to claim yet."""

    def send(self, message: Message) -> None:
        """Write the message into the recording that runs, and keep the newest session for the next."""
        with self._lock:
            if isinstance(message, Session):
                self._session = message
            if self._current is not None:
                self._current.write(message)

    def attend(self) -> float | None:
        """Write what has waited."""
        with self._lock:
            if self._current is None:
                return None
            self._current.attend()
        return time.monotonic() + FLUSH_S

    def readable(self) -> "zmq.Socket[bytes] | None":
        """None: nothing arrives."""
        return None

    def close(self) -> None:
        """Finish what runs."""
        current = self._detach()
        if current is not None:
            current.close(None)
        self._await_closers()

    # --- beginnings and ends ---

    def _begin(self, info: SourceInfo, files: RecordingFiles, *, lossless: bool, began_s: float | None) -> None:
        settings = self._settings(info, lossless=lossless, began_s=began_s)
        begun = _Running(files, settings, broken_off=self._broken_off)
        with self._lock:
            if self._session is not None:
                begun.write(self._session)
            self._current = begun

    def _detach(self) -> "_Running | None":
        with self._lock:
            running, self._current = self._current, None
            return running

    def _finish(self, running: "_Running", *, stopped_ns: int | None = None) -> None:
        def finish() -> None:
            running.close(STOPPED)
            if stopped_ns is not None and not running.is_broken:
                film = running.files.film
                text = f"{film.name} is complete and can be played"
                if not film.exists():
                    text = f"{film.name} was not made: neither picture nor sound came"
                self._tell(SourceEvent(t_ns=stopped_ns, kind="recording_stopped", text=text))

        closer = threading.Thread(target=finish, name="recording-end", daemon=True)
        closer.start()
        with self._lock:
            self._closers = [*(one for one in self._closers if one.is_alive()), closer]

    def _await_closers(self) -> None:
        while self._closers:
            self._closers[0].join()
            with self._lock:
                self._closers = [one for one in self._closers if one.is_alive()]

    def _broken_off(self, running: "_Running", event: SourceEvent) -> None:
        # On the recorder's thread, the capture thread, the feed's or a closer's.
        with self._lock:
            self.broken += (event.text,)
            if self._current is running:
                self._current = None
        self._tell(event)
        self._finish(running)


class _Running:
    """A recording being made: the recorder of its film, and the file of its feed."""

    def __init__(
        self,
        files: RecordingFiles,
        settings: RecordedSession,
        *,
        broken_off: Callable[["_Running", SourceEvent], None],
    ) -> None:
        self.files, self.is_broken = files, False
        self._broken_off = broken_off
        self.recorder = Recorder(files, settings, told=self._break_off)
        try:
            self._feed = LineFile(files.feed, wait_s=FLUSH_S)  # refuses a file that exists
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RecordingError(f"cannot record {files.film}: {reason}; choose another name") from error
        try:
            self.recorder.__enter__()
        except BaseException:
            self._feed.close()
            files.feed.unlink()
            raise

    def write(self, message: Message) -> None:
        self._guard(lambda: self._feed.write(encode(message)))

    def attend(self) -> None:
        self._guard(self._feed.attend)

    def close(self, why: str | None) -> None:
        self.recorder.close(why)
        self._guard(self._feed.close)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self.recorder.break_off(f"{self.files.feed}: {(error.strerror or str(error)).lower()}")

    def _break_off(self, event: SourceEvent) -> None:
        self.is_broken = True
        self._broken_off(self, event)
