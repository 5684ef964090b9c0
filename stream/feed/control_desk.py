"""What a session is asked to do by its control, done and answered: without any socket."""

from typing import Protocol

import msgspec
import zmq

from stream.feed.control_messages import (
    AskStatus,
    Mark,
    Pause,
    Record,
    Reply,
    Request,
    Resume,
    SetHop,
    Shutdown,
    StopRecording,
    decode_request,
)
from stream.feed.messages import Message, Session, Status
from stream.records import SourceEvent
from stream.windows import NS_PER_S


class Controlled(Protocol):
    """A session as its control sees it. Any thread may call; nothing of it waits.

    Each call may raise `ValueError` where it cannot do what is asked; the text is one line for who asked.
    """

    def tell(self, event: SourceEvent) -> None:
        """Publish an event."""

    def stop(self) -> None:
        """End the stream in order."""

    def pause(self, paused: bool) -> None:
        """Score nothing, or go on."""

    def set_hop(self, hop_s: float) -> None:
        """Score one hop each so many seconds."""

    def record(self, file: str, *, lossless: bool) -> None:
        """Begin a recording of that name, and tell."""

    def stop_recording(self) -> None:
        """End the recording that runs, and tell."""

    @property
    def recording(self) -> str | None:
        """Name of the recording that runs."""

    def now_ns(self) -> int:
        """Media time of now."""


class Newest:
    """A sink of the feed that keeps the newest session and status of it, for the control to tell."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.status: Status | None = None

    def open(self) -> None:
        """There is nothing to claim."""

    def send(self, message: Message) -> None:
        """Keep the newest."""
        match message:
            case Session():
                self.session = message
            case Status():
                self.status = message

    def attend(self) -> float | None:
        """Nothing waits."""
        return None

    def readable(self) -> "zmq.Socket[bytes] | None":
        """It listens to nothing."""
        return None

    def close(self) -> None:
        """What was kept stays."""


class Desk:
    """Does what a request asks, and words the reply. One thread uses it.

    Args:
        session: What is controlled.
        newest: What its feed said last.
    """

    def __init__(self, session: Controlled, newest: Newest) -> None:
        self._session, self._newest = session, newest
        self._paused = False

    def answer(self, payload: bytes) -> bytes:
        """The reply to a request as it came, also where that is no request."""
        request: Request | None = None
        error: str | None = None
        t_ns = self._session.now_ns()
        try:
            request = decode_request(payload)
            self._do(request, t_ns)
        except ValueError as refused:
            error = str(refused)
        asked = isinstance(request, AskStatus)
        return msgspec.json.encode(
            Reply(
                id="" if request is None else request.id,
                error=error,
                t=t_ns / NS_PER_S,
                paused=self._paused,
                recording=self._session.recording,
                session=self._newest.session if asked else None,
                status=self._newest.status if asked else None,
            )
        )

    def _do(self, request: Request, t_ns: int) -> None:
        match request:
            case Pause() | Resume():
                paused = isinstance(request, Pause)
                if paused != self._paused:
                    self._session.pause(paused)
                    self._paused = paused
                    self._tell(t_ns, *(("paused", "no estimates until resumed") if paused else ("resumed", "goes on")))
            case SetHop():
                self._session.set_hop(request.hop_s)
            case Record():
                self._session.record(request.file, lossless=request.lossless)
            case StopRecording():
                self._session.stop_recording()
            case Mark():
                self._tell(t_ns, "mark", request.text)
            case Shutdown():
                self._tell(t_ns, "shutdown", "asked to end by its control")
                self._session.stop()
            case AskStatus():
                pass

    def _tell(self, t_ns: int, kind: str, text: str) -> None:
        self._session.tell(SourceEvent(t_ns=t_ns, kind=kind, text=text))
