"""A session that is told to pause, to go on, and to publish less often, while it runs."""

from collections.abc import Callable

import pytest

from engines.bundle import Bundle
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Event, Message, Status
from stream.feed.messages import Session as Opening
from stream.records import SourceEvent
from stream.session import Session
from tests.sessions import MadeSource, Told, sound
from tests.small_bundle import small_bundle

HOP_S = 0.05
N_HOPS = 80


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small"))


def steered(
    bundle: Bundle,
    steer: Callable[[Session, Message | None], None],
    *,
    delivery: Delivery = Delivery.WAIT,
    source: MadeSource | None = None,
    **more: Bundle,
) -> Told:
    """Runs a session; `steer` is called before it begins, with None, and after each message, on the scoring thread."""
    messages: list[Message] = []

    def publish(message: Message) -> None:
        messages.append(message)
        steer(session, message)

    bundles = [bundle, *more.values()]
    config = SessionConfig(engine="onnx", model=("small",) * len(bundles))
    source = source or MadeSource(sound(N_HOPS * HOP_S))
    session = Session(source, bundles, publish, config, delivery=delivery)
    steer(session, None)
    return Told(messages, session.run())


def ends_s(told: Told) -> list[float]:
    return [round(estimate.span[1], 6) for estimate in told.estimates]


def test_a_longer_hop_scores_every_kth_segment_and_a_new_session_message_says_so(bundle: Bundle) -> None:
    def steer(session: Session, message: Message | None) -> None:
        if isinstance(message, Estimate) and message.span[1] == 1.0:
            session.choice.set_hop(0.2)

    told = steered(bundle, steer)
    assert ends_s(told) == [round(k * HOP_S, 6) for k in [*range(1, 21), *range(21, 81, 4)]]
    first, second = [message for message in told.messages if isinstance(message, Opening)]
    assert (first.hop_s, first.t) == (0.05, 0.0)
    assert (second.hop_s, second.session, second.origin) == (0.2, first.session, first.origin)
    at = told.messages.index(second)
    after = told.messages[at + 1]
    assert isinstance(after, Event)
    assert (after.kind, after.text, after.t) == ("hop", "an estimate each 0.2 s", second.t)
    assert [m.span[1] for m in told.messages[:at] if isinstance(m, Estimate)][-1] == 1.0


def test_estimates_of_a_longer_hop_are_those_of_a_session_that_scored_the_same_segments(bundle: Bundle) -> None:
    def steer(session: Session, message: Message | None) -> None:
        if message is None:
            session.choice.set_hop(0.15)

    told = steered(bundle, steer)
    assert [len(estimate.windows) for estimate in told.estimates[1:]] == [2] * 26  # of four segments every third
    every = steered(bundle, lambda session, message: None)
    frames = {estimate.windows[-1].frame for estimate in every.estimates}
    assert {estimate.windows[-1].frame for estimate in told.estimates} < frames


def test_what_somebody_asked_to_leave_out_is_no_drop(bundle: Bundle) -> None:
    statuses: list[Status] = []

    def steer(session: Session, message: Message | None) -> None:
        if message is None:
            session.choice.set_hop(0.1)
        if isinstance(message, Status):
            statuses.append(message)

    told = steered(bundle, steer)
    assert (told.totals["hops"], told.totals["left_out_hops"]) == (40, 40)
    assert "dropped_hops" not in told.totals
    assert all("hops" not in status.drops for status in statuses)


def test_a_paused_live_session_says_nothing_and_drops_nothing(bundle: Bundle) -> None:
    def steer(session: Session, message: Message | None) -> None:
        session.choice.pause(True)

    told = steered(bundle, steer, delivery=Delivery.DROP_OLDEST)
    assert told.estimates == []
    assert (told.totals["hops"], told.totals["left_out_hops"]) == (0, N_HOPS)
    assert "dropped_hops" not in told.totals


def test_several_recognisers_leave_out_the_same(bundle: Bundle) -> None:
    def steer(session: Session, message: Message | None) -> None:
        if message is None:
            session.choice.set_hop(0.1)

    told = steered(bundle, steer, other=bundle)
    assert ends_s(told) == [round(k * HOP_S, 6) for k in range(1, 81, 2)]


def test_a_paused_replay_stands_still_and_loses_nothing(bundle: Bundle) -> None:
    n_held = 0

    def steer(session: Session, message: Message | None) -> None:
        nonlocal n_held
        if isinstance(message, Estimate) and message.span[1] == 1.0:
            session.choice.pause(True)
        elif isinstance(message, Status) and message.t == 1.0:  # the heartbeat goes on
            n_held += 1
            session.choice.pause(False)

    told = steered(bundle, steer)
    assert n_held == 1
    assert ends_s(told) == [round(k * HOP_S, 6) for k in range(1, 81)]
    assert "left_out_hops" not in told.totals


def test_what_is_told_beside_the_line_does_not_wait_for_a_replay_that_stands_still(bundle: Bundle) -> None:
    def steer(session: Session, message: Message | None) -> None:
        if isinstance(message, Estimate) and message.span[1] == 1.0:
            session.choice.pause(True)
            session.tell(SourceEvent(t_ns=10**12, kind="mark", text="now"))
        elif isinstance(message, Event) and message.kind == "mark":
            session.choice.pause(False)

    told = steered(bundle, steer)
    kinds = [type(message) for message in told.messages if not isinstance(message, Status)]
    assert kinds.index(Event) == kinds.index(Opening) + 20 + 1
    assert len(told.estimates) == N_HOPS


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_a_paused_replay_can_be_ended(bundle: Bundle, how: str) -> None:
    error = OSError("pulled") if how == "failed" else None
    source = MadeSource(sound(0.5), error=error, endless=how == "stopped")
    statuses: list[Message] = []

    def steer(session: Session, message: Message | None) -> None:
        if message is None:
            session.choice.pause(True)
        elif isinstance(message, Status):
            statuses.append(message)
            if len(statuses) == 2 and how == "stopped":  # the first is told before anything has come
                session.stop()

    if error is not None:
        with pytest.raises(OSError, match="pulled"):
            steered(bundle, steer, source=source)
    else:
        assert steered(bundle, steer, source=source).totals["hops"] == 10


def test_a_hop_that_cannot_be_is_refused_and_nothing_changes(bundle: Bundle) -> None:
    def steer(session: Session, message: Message | None) -> None:
        if message is None:
            with pytest.raises(ValueError, match=r"1 to 40 times the recogniser's 0\.05 s, got 0\.07 s; the nearest"):
                session.choice.set_hop(0.07)

    assert len(steered(bundle, steer).estimates) == N_HOPS
