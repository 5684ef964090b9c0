"""Writes down what a session analyses while it does: pictures, sound, their exact times, and what was left out.

The session never waits for it: items go into a bounded queue, a thread of its own encodes and writes. What cannot be
written any more (a full disk, an encoder that is too slow) ends the recording, with one event, and not the session.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import av

from stream.line_file import LineFile
from stream.recording.files import FLUSH_S, RecordingError, RecordingFiles
from stream.recording.settings import RecordedSession, write_settings
from stream.recording.tape import Tape
from stream.recording.times import EndLine, NoteLine
from stream.records import SourceEvent, VideoFrame
from stream.source import Item, complete_ns
from stream.windows import NS_PER_S

QUEUE_S = 4.0
QUEUE_BYTES = 512 * 2**20


class Recorder:
    """A recording being made; used with `with`, which finishes its files at the end.

    Pictures of another size than before: a lossless film goes on in another file, `talk.2.mkv`; otherwise they are
    fitted into the first one's. The items that it is given must not be changed afterwards.

    Args:
        files: Where to write, as `new_files` gives them.
        settings: How the session analyses, and whether to record lossless.
        told: Takes the event `recording_ended` where the recording ends before the session; called once at most, by
            the recorder's thread or the one that calls `take`.
        queue_s: Media that may wait to be written; more ends the recording.
        queue_bytes: The same in memory.
    """

    def __init__(
        self,
        files: RecordingFiles,
        settings: RecordedSession,
        *,
        told: Callable[[SourceEvent], None],
        queue_s: float = QUEUE_S,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._files, self._settings, self._told = files, settings, told
        self._queue_ns, self._queue_bytes = round(queue_s * NS_PER_S), queue_bytes
        self._changed = threading.Condition()
        self._queue: deque[Item | NoteLine] = deque()
        self._waiting: deque[tuple[int, int]] = deque()  # time and bytes of each item in the queue
        self._n_bytes = 0
        self._newest_ns = 0
        self._closing = False
        self._why: str | None = None  # it broke off
        self._stopped_why: str | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        """Create the files and start.

        Raises:
            RecordingError: If they cannot be created.
        """
        try:
            self._times = LineFile(self._files.times, wait_s=FLUSH_S)  # refuses a file that exists
            with contextlib.ExitStack() as failed:
                failed.callback(self._files.times.unlink)
                failed.callback(self._times.close)
                write_settings(self._files.session, self._settings)
                failed.pop_all()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RecordingError(f"cannot record {self._files.film}: {reason}; choose another name") from error
        self._tape = Tape(self._files, self._settings, self._times)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self, item: Item) -> None:
        """Record what the source handed out next. Never waits. Capture thread."""
        n_bytes = item.image.nbytes if isinstance(item, VideoFrame) else 0
        with self._changed:
            if self._closing or self._why is not None:
                return
            self._newest_ns = complete_ns(item)
            self._queue.append(item)
            self._waiting.append((self._newest_ns, n_bytes))
            self._n_bytes += n_bytes
            behind_ns = self._newest_ns - self._waiting[0][0]
            late = behind_ns > self._queue_ns or self._n_bytes > self._queue_bytes
            self._changed.notify()
        if late:
            self._end(
                f"the machine writes more slowly than media come, it fell {behind_ns / NS_PER_S:.1f} s behind; ask for "
                "smaller pictures, or record without --record-lossless"
            )

    def note(self, kind: str, value: Any) -> None:
        """Record what the session decided: `dropped_frame` with its time, `left_out_segment` with its number.

        Never waits. Any thread may call. `value` is anything that JSON can say.
        """
        with self._changed:
            if not self._closing and self._why is None:
                self._queue.append(NoteLine(kind=kind, value=value))
                self._changed.notify()

    def close(self, why: str | None = None) -> None:
        """Write what waits and finish the files. Closing twice is harmless.

        Args:
            why: Why the recording ends before the session, where it does.
        """
        with self._changed:
            if not self._closing:
                self._closing, self._stopped_why = True, why
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def break_off(self, why: str) -> None:
        """End it for a reason found outside; what was taken is written, and `told` is called. Any thread may call."""
        self._end(why)

    def _end(self, why: str) -> None:
        with self._changed:
            if self._why is not None:
                return
            self._why = why
            self._changed.notify()
        text = f"the recording {self._files.film} ended, what it holds can be played: {why}"
        self._told(SourceEvent(t_ns=self._newest_ns, kind="recording_ended", text=text))

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._tape.add(item)
            self._tape.finish(EndLine(t_ns=self._newest_ns, why=self._why or self._stopped_why))
        except FileExistsError as error:
            self._break_off(f"{error.filename} exists already; choose another name", full=False)
        except (av.FFmpegError, OSError) as error:
            self._break_off(
                f"{(error.strerror or str(error)).lower()}; make room, or record to another disk", full=True
            )
        except Exception as error:  # whatever it is, the session goes on, and who follows it is told
            self._break_off(f"{type(error).__name__}: {error}", full=False)

    def _break_off(self, why: str, *, full: bool) -> None:
        self._end(why)
        with self._changed:
            self._queue.clear()
            self._waiting.clear()
        self._tape.abandon(EndLine(t_ns=self._newest_ns, why=why), full=full)

    def _next(self) -> Item | NoteLine | None:
        with self._changed:
            while not self._queue:
                if self._closing or self._why is not None:
                    return None
                if not self._changed.wait(FLUSH_S):
                    self._times.attend()
            item = self._queue.popleft()
            if not isinstance(item, NoteLine):
                self._n_bytes -= self._waiting.popleft()[1]
            return item
