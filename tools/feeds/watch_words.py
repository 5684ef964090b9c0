"""Messages of the feed in words: for a line of text, and for the parts of the picture in the terminal."""

from stream.feed.messages import Estimate, Event, Message, Session, Status


def render(message: Message) -> str:
    """A message as one plain line."""
    head = f"{message.t:9.2f} s  {message.stream}"
    match message:
        case Session():
            line = f"session  {about(message)}: {' '.join(message.labels)}; {message.notice}"
        case Estimate():
            line = f"{who(message.person)}  {_verdict(message)}  {weights(message)}".rstrip() + _age(message)
        case Status():
            line = f"status  {', '.join(rates(message))}"
        case Event():
            of = "" if message.person is None else f" ({who(message.person)})"
            line = f"event  {message.kind}{of}: {message.text}"
    return printable(f"{head}  {line}")


def about(session: Session) -> str:
    """What recognises, and on what it runs."""
    return f"{session.recogniser} {session.bundle} on {session.engine}"


def who(person: int) -> str:
    """A person's name."""
    return f"person {person}" if person else "voice"


def verdict(estimate: Estimate) -> str:
    """What an estimate says, or why it says nothing."""
    return f"({estimate.reason})" if estimate.label is None else f"{estimate.label} {estimate.confidence:4.2f}"


def weights(estimate: Estimate) -> str:
    """What it was made from."""
    return " ".join(f"{name} {weight:.2f}" for name, weight in estimate.modalities.items() if weight)


def rates(status: Status) -> list[str]:
    """What a status says, each a few words; what is not there, or went well, is left out."""
    parts = [f"{status.frame_rate_hz:.1f} frames/s", f"{status.hop_rate_hz:.1f} hops/s"]
    if status.engine_ms is not None:
        parts.append("engine {:.0f}/{:.0f} ms".format(*status.engine_ms))
    if status.age_ms is not None:
        parts.append("age {:.0f}/{:.0f} ms".format(*status.age_ms))
    if status.drift_ppm is not None:
        parts.append(f"drift {status.drift_ppm:.1f} ppm")
    drops = " ".join(f"{name} {n}" for name, n in status.drops.items() if n)
    parts.append(f"dropped: {drops}" if drops else "0 dropped")
    if status.overruns or status.audio_gap_s >= 0.05:  # less is said as 0.0
        parts.append(f"{status.overruns} overruns, {status.audio_gap_s:.1f} s unheard")
    return parts


def printable(text: str) -> str:
    """A text without anything that would steer the terminal: a publisher may send whatever it likes."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _verdict(estimate: Estimate) -> str:
    if estimate.label is None:
        return verdict(estimate).ljust(14)
    return f"{estimate.label:<9} {estimate.confidence:4.2f}"


def _age(estimate: Estimate) -> str:
    return "" if estimate.age_ms is None else f"  {estimate.age_ms:.0f} ms"
