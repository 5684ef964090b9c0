"""A session as its control sees it: what may be asked of it, and what is refused and why."""

from stream.recording.switch import RecordingSwitch
from stream.records import SourceEvent
from stream.session import Session


class ControlledLive:
    """A live session and its recordings.

    A pause leaves out hops, and so does a longer hop; devices and a recording run on meanwhile.

    Args:
        session: The session.
        switch: Begins and ends its recordings.
    """

    def __init__(self, session: Session, switch: RecordingSwitch) -> None:
        self._session, self._switch = session, switch

    def tell(self, event: SourceEvent) -> None:
        """Publish an event."""
        self._session.tell(event)

    def stop(self) -> None:
        """End the stream in order."""
        self._session.stop()

    def pause(self, paused: bool) -> None:
        """Leave out every hop, or no longer."""
        self._session.choice.pause(paused)

    def set_hop(self, hop_s: float) -> None:
        """Score one hop each so many seconds. Raises ValueError if that is no whole number of segments."""
        self._session.choice.set_hop(hop_s)

    def record(self, file: str, *, lossless: bool) -> None:
        """Begin a recording of that name. Raises RecordingError where that cannot be."""
        self._switch.record(file, lossless=lossless, t_ns=self.now_ns())

    def stop_recording(self) -> None:
        """End the recording that runs. Raises RecordingError if none does."""
        self._switch.stop(t_ns=self.now_ns())

    @property
    def recording(self) -> str | None:
        """Name of the recording that runs."""
        return self._switch.recording

    def now_ns(self) -> int:
        """Media time of now."""
        return self._session.now_ns()
