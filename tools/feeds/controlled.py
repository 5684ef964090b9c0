"""A session as its control sees it: what may be asked of it, and what is refused and why."""

from stream.clock import HeldClock
from stream.feed.control import Control
from stream.feed.control_desk import Controlled, Newest
from stream.feed.keys import load_server_keys
from stream.recording.switch import RecordingSwitch
from stream.records import SourceEvent
from stream.session import Session


def control_of(address: str, session: Controlled, newest: Newest, *, keys: bool) -> Control:
    """What answers at an address, to be used with `with`.

    Args:
        address: Where to listen.
        session: What is controlled.
        newest: What its feed said last.
        keys: Whether the feed has keys; the control then has them, too.

    Raises:
        FeedError: If the address is malformed or not allowed, or there are no keys.
    """
    return Control(address, session, newest, keys=load_server_keys(control=True) if keys else None)


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


class ControlledReplay:
    """A replay of one file.

    A pause holds it: time stands still, no hop is left out, and the estimates are those of a replay without a pause.
    What would change these is refused.

    Args:
        session: The session.
        clock: What paces its source.
    """

    recording = None

    def __init__(self, session: Session, clock: HeldClock) -> None:
        self._session, self._clock = session, clock

    def tell(self, event: SourceEvent) -> None:
        """Publish an event."""
        self._session.tell(event)

    def stop(self) -> None:
        """End the stream in order."""
        self._session.stop()

    def pause(self, paused: bool) -> None:
        """Stand still, or go on."""
        self._clock.hold(paused)
        self._session.choice.pause(paused)

    def set_hop(self, hop_s: float) -> None:
        """Raises ValueError."""
        raise ValueError("a replay scores every hop, so that it says the same each time; set-hop is for live sessions")

    def record(self, file: str, *, lossless: bool) -> None:
        """Raises ValueError."""
        raise ValueError("a replay is not recorded, its file is there already; --out FILE.jsonl keeps what it says")

    def stop_recording(self) -> None:
        """Raises ValueError."""
        raise ValueError("a replay is not recorded, so there is nothing to stop")

    def now_ns(self) -> int:
        """Media time of now."""
        return self._session.now_ns()
