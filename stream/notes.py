"""What the line publishes, in the feed's words: records to messages. Times become seconds here and nowhere else."""

from datetime import datetime

from stream.aggregation import Aggregate
from stream.config import SessionConfig
from stream.ensemble import Ensemble
from stream.feed.messages import Estimate, Event, Session, Status, WindowNote
from stream.feed.publisher import rfc3339
from stream.meters import Meters
from stream.perception.seen import PersonEvent
from stream.records import Score, SourceEvent, SourceHealth, SourceInfo, Window
from stream.windows import NS_PER_S, WindowScheme

NOTICE = (
    "Estimates are guesses of a statistical model about an expression, not facts about a person or what they feel. "
    "Ask those who are seen and heard for consent; at work and in education the law of the EU forbids emotion "
    "recognition (AI Act, Article 5(1)(f)), medical and safety reasons apart."
)


def seconds(t_ns: int) -> float:
    """Nanoseconds as seconds, to the microsecond: floats that print the same wherever they are computed."""
    return round(t_ns / NS_PER_S, 6)


def session_message(
    info: SourceInfo, ensemble: Ensemble, config: SessionConfig, scheme: WindowScheme, *, engine: str, session: str,
    origin: datetime,
) -> Session:  # fmt: skip
    """The message that opens a stream."""
    return Session(
        stream=info.name,
        seq=0,
        t=0.0,
        stamp="",
        session=session,
        origin=rfc3339(origin),
        labels=ensemble.labels,
        recogniser=ensemble.name,
        bundle=ensemble.digits,
        engine=engine,
        hop_s=seconds(scheme.segment_ns),
        n_segments=scheme.n_segments,
        alignment=scheme.alignment.value,
        seed=config.seed,
        source=info.text,
        notice=NOTICE,
    )


def estimate_message(
    aggregate: Aggregate, stream: str, ensemble: Ensemble, scheme: WindowScheme, age_ms: float | None
) -> Estimate:
    """What is known of one person after one hop."""
    labels = ensemble.labels
    newest = aggregate.scores[-1].window
    start_ns = _start_ns(aggregate.scores[0].window, scheme)
    boxes = [score.window.face.box for score in aggregate.scores if score.window.face is not None]
    return Estimate(
        stream=stream,
        seq=0,
        t=seconds(newest.draw.frame_ns),
        stamp="",
        span=(seconds(start_ns), seconds(newest.end_ns)),
        age_ms=None if age_ms is None else round(age_ms, 3),
        person=aggregate.person,
        box=boxes[-1] if boxes else None,
        posterior={label: round(float(p), 6) for label, p in zip(labels, aggregate.posterior, strict=True)},
        label=None if aggregate.label is None else labels[aggregate.label],
        confidence=round(aggregate.confidence, 6),
        reason=aggregate.reason,  # type: ignore[arg-type]
        modalities={name: round(share, 6) for name, share in aggregate.modalities.items()},
        windows=tuple(window_note(score) for score in aggregate.scores),
        bundle=ensemble.digits,
        baseline=aggregate.baseline,
    )


def _start_ns(oldest: Window, scheme: WindowScheme) -> int:
    if oldest.clip is None:
        return scheme.segment_bounds(oldest.draw.segment)[0]
    return max(0, min((oldest.draw.audio_start_ns, *oldest.clip.times_ns[:1])))


def window_note(score: Score) -> WindowNote:
    """Where one scored window came from."""
    draw = score.window.draw
    return WindowNote(
        frame=seconds(draw.frame_ns),
        audio=(seconds(draw.audio_start_ns), seconds(draw.audio_end_ns)),
        offset=round(draw.offset_ns / NS_PER_S, 9),
        face=score.window.face is not None,
        voice=score.window.voice.value,
    )


def event_message(event: SourceEvent, stream: str) -> Event:
    """Something that happened, to a source or a person."""
    person = event.person if isinstance(event, PersonEvent) else None
    return Event(stream=stream, seq=0, t=seconds(event.t_ns), stamp="", kind=event.kind, text=event.text, person=person)


def end_message(stream: str, t_ns: int, text: str, totals: dict[str, float]) -> Event:
    """The message that closes a stream."""
    return Event(stream=stream, seq=0, t=seconds(t_ns), stamp="", kind="end", text=text, totals=totals)


def status_message(
    stream: str,
    t_ns: int,
    meters: Meters,
    *,
    persons: int,
    drops: dict[str, int],
    audio_gap_s: float,
    engine: tuple[str, str],
    picture: tuple[int, int] | None,
    health: SourceHealth,
) -> Status:
    """How the stream runs; also the heartbeat."""
    rates = meters.rates()
    return Status(
        stream=stream,
        seq=0,
        t=seconds(t_ns),
        stamp="",
        frame_rate_hz=round(rates.get("frames", 0.0), 3),
        analysed_rate_hz=round(rates.get("analysed", 0.0), 3),
        hop_rate_hz=round(rates.get("hops", 0.0), 3),
        persons=persons,
        drops=drops,
        overruns=health.overruns,
        audio_gap_s=round(audio_gap_s, 6),
        engine_ms=meters.percentiles("engine"),
        age_ms=meters.percentiles("age"),
        drift_ppm=None if health.drift_ppm is None else round(health.drift_ppm, 3),
        drift_residual_ms=None if health.residual_ms is None else round(health.residual_ms, 3),
        engine=engine[0],
        engine_why=engine[1],
        picture=picture,
    )
