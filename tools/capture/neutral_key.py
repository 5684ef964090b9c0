"""The preview's key `n`: the next seconds of a live session become a person's baseline, for the sessions after it."""

from collections.abc import Callable, Sequence

from engines.bundle import Bundle
from stream.baseline import BaselineError, NeutralPeriod, write_baseline
from stream.feed.publisher import rfc3339, utc_now
from stream.records import Score, SourceEvent
from stream.windows import NS_PER_S

PERSON = "me"
TAKEN_S = 10


class NeutralKey:
    """Takes a baseline when it is pressed, and tells so. It is used by the next session: this one stays as it began.

    Args:
        bundle: The recogniser that scores.
        tell: Publishes what happened.
    """

    def __init__(self, bundle: Bundle, tell: Callable[[SourceEvent], None]) -> None:
        self._bundle, self._tell = bundle, tell
        self._pressed = False
        self._period: NeutralPeriod | None = None
        self._end_ns = 0

    def press(self) -> None:
        """Take the next seconds. Any thread may call."""
        self._pressed = True

    def scored(self, scores: Sequence[Score]) -> None:
        """What one hop gave; scoring thread."""
        if not scores:
            return
        t_ns = scores[0].window.end_ns
        if self._pressed:
            self._pressed, self._end_ns = False, t_ns + TAKEN_S * NS_PER_S
            try:
                self._period = NeutralPeriod(self._bundle, PERSON)
            except BaselineError as error:
                self._say(t_ns, str(error))
                return
            self._say(t_ns, f"taking {TAKEN_S} s of a neutral face and voice: be alone in view, and read calmly aloud")
        elif self._period is not None:
            self._period.take(scores)
            if t_ns >= self._end_ns:
                period, self._period = self._period, None
                self._say(t_ns, _kept(period))

    def _say(self, t_ns: int, text: str) -> None:
        self._tell(SourceEvent(t_ns=t_ns, kind="baseline", text=text))


def _kept(period: NeutralPeriod) -> str:
    try:
        path = write_baseline(period.baseline(rfc3339(utc_now())))
    except BaselineError as error:
        return str(error)
    return f"kept in {path}; the next session uses it with --baseline {PERSON}"
