"""Faults that are asked for: what each does to the items, that a seed repeats them, and that a line bears them."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.bundle import Bundle
from engines.select import Engines
from stream.clock import ManualClock
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.feed.messages import Estimate, Event, Message
from stream.feed.sinks import ZmqSink
from stream.records import AudioBlock, SourceEvent, SourceHealth, VideoFrame
from stream.scoring import Scorer
from stream.session import Session
from stream.source import complete_ns
from stream.sources.chaos import ChaosSource, drifting
from stream.sources.chaos_drift import DriftingSink, Stretch
from stream.sources.chaos_load import Slowed, slow_subscriber
from stream.sources.chaos_plan import EXAMPLES, ChaosPlan, Fault, parse
from stream.sources.device import Lost, Sound
from stream.sources.media import MediaSource, Speed
from tests.feeds import ANY, event, joined, receive, seqs, serving
from tests.media_files import Audio, Video, write_media
from tests.sessions import Item, MadeSource, Told, analyse, frames, in_order, sound
from tests.small_bundle import small_bundle

pytestmark = pytest.mark.timeout(60)

MS, S = 1_000_000, 1_000_000_000
GREY = np.full((48, 64, 3), 90, np.uint8)


def media(duration_s: float = 4.0, *, block: int = 512) -> list[Item]:
    return in_order(sound(duration_s, block=block), frames(np.arange(0, duration_s, 0.04).tolist(), GREY))


def suffering(text: str, items: list[Item] | None = None, *, seed: int = 0) -> list[Item]:
    """What comes of items at full speed, without the event that says what goes wrong."""
    source = ChaosSource(MadeSource(media() if items is None else items), parse(text), seed=seed)
    first, *rest = source
    assert isinstance(first, SourceEvent)
    assert (first.kind, first.t_ns) == ("chaos", 0)
    return rest


def times_ms(items: list[Item]) -> list[float]:
    return [item.t_ns / MS for item in items if isinstance(item, VideoFrame)]


def heard(items: list[Item], duration_s: float = 4.0) -> np.ndarray:
    """Which samples came: (n,) bool."""
    there = np.zeros(round(duration_s * 16_000), np.bool_)
    for item in items:
        if isinstance(item, AudioBlock):
            assert not there[item.first : item.first + len(item.samples)].any()
            there[item.first : item.first + len(item.samples)] = True
    return there


def gaps_s(items: list[Item], duration_s: float = 4.0) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[True], heard(items, duration_s), [True]]).astype(np.int8)))
    return [(float(a) / 16_000, float(b) / 16_000) for a, b in edges.reshape(-1, 2)]


def events(items: list[Item]) -> list[tuple[str, float, str]]:
    return [(e.kind, e.t_ns / S, e.text.split(":")[0]) for e in items if isinstance(e, SourceEvent)]


# the plan


def test_a_plan_is_read_from_its_text() -> None:
    text = (
        "camera-loss@10s+3s, microphone-loss~20s+500ms,overrun@5s,drift=-200ppm,jitter=20ms,stall@1min+1.5s,"
        "slow-subscriber,slow-scoring=2.5s,noise=-40dB"
    )
    assert parse(text) == ChaosPlan(
        text=text,
        faults=(
            Fault(kind="camera-loss", at_ns=10 * S, lasts_ns=3 * S),
            Fault(kind="microphone-loss", at_ns=20 * S, lasts_ns=S // 2, repeats=True),
            Fault(kind="overrun", at_ns=5 * S, lasts_ns=32_000_000),
            Fault(kind="stall", at_ns=60 * S, lasts_ns=1_500_000_000),
        ),
        drift_ppm=-200.0,
        jitter_ns=20_000_000,
        noise_db=-40.0,
        slow_scoring_s=2.5,
        slow_subscriber=True,
    )


def test_every_example_that_an_error_gives_is_one() -> None:
    for name, examples in EXAMPLES.items():
        for example in examples.split(" or "):
            assert parse(example) != ChaosPlan(), name


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "stall@1s+1s,camra-loss@1s",
            "chaos: expected faults of camera-loss, microphone-loss, stall, overrun, drift, jitter, noise, "
            "slow-scoring, slow-subscriber, got 'camra-loss@1s'",
        ),
        ("", "chaos: expected faults of camera-loss, .*, got ''"),
        ("camera-loss@10s", r"chaos: expected camera-loss@10s\+3s or camera-loss~20s\+1s, .*, got 'camera-loss@10s'"),
        ("stall@10+3", r"expected stall@8s\+1s .*, got 'stall@10\+3'"),
        ("drift=200", "expected drift=200ppm or drift=-200ppm, once where it has a size, got 'drift=200'"),
        ("drift=1ppm,drift=2ppm", "expected drift=200ppm .* once where it has a size, got 'drift=2ppm'"),
        ("slow-subscriber=1", "expected slow-subscriber, .* got 'slow-subscriber=1'"),
        ("noise=3dB", "expected noise=-40dB"),
        ("stall@1s+0s", "stall: expected a duration above 0 .*, got 0 s"),
        ("stall~1s+2s", "stall: expected a duration .* not above its period, got 2 s"),
        ("drift=20000ppm", "drift: expected -10000 to 10000 ppm, got 20000"),
    ],
)
def test_what_is_no_plan_is_refused_and_told_what_there_is(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse(text)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**53 - 1), start=st.integers(0, 10**12), length=st.integers(1, 10**11))
def test_a_fault_that_repeats_comes_once_in_each_period_whichever_part_is_asked_for(
    seed: int, start: int, length: int
) -> None:
    plan = parse("camera-loss~20s+1s")
    whole = plan.spans("camera-loss", 0, start + length + 40 * S, seed)
    assert [begin // (20 * S) for begin, _ in whole] == [(end - 1) // (20 * S) for _, end in whole]
    assert len({begin // (20 * S) for begin, _ in whole}) == len(whole) >= (start + length) // (20 * S)
    assert {end - begin for begin, end in whole} == {S}
    part = plan.spans("camera-loss", start, start + length, seed)
    assert part == [(a, b) for a, b in whole if a < start + length and start < b]


def test_draws_differ_by_seed_by_period_and_by_fault() -> None:
    twice = parse("stall~20s+1s,stall~20s+1s")
    spans = twice.spans("stall", 0, 2_000 * S, 1)
    assert spans != twice.spans("stall", 0, 2_000 * S, 2)
    assert len({begin % (20 * S) for begin, _ in spans}) == len(spans) > 100
    assert parse("stall~20s+1s").spans("stall", 0, 100 * S, 1) == [
        (begin, begin + S) for begin in drawn(spans, parse("stall~20s+1s"))
    ]


def drawn(spans: list[tuple[int, int]], plan: ChaosPlan) -> list[int]:
    """The begins of a plan's own fault, all of which are among `spans` or covered by them."""
    begins = [begin for begin, _ in plan.spans("stall", 0, 100 * S, 1)]
    assert all(any(a <= begin < b for a, b in spans) for begin in begins)
    return begins


def test_faults_of_a_kind_that_overlap_are_one() -> None:
    plan = parse("stall@1s+2s,stall@2s+2s,stall@6s+1s,overrun@2s")
    assert plan.spans("stall", 0, 10 * S, 0) == [(S, 4 * S), (6 * S, 7 * S)]
    assert plan.spans("stall", 4 * S, 6 * S, 0) == []


# what each fault does


def test_a_lost_camera_gives_no_picture_and_is_told_of_in_order() -> None:
    items = suffering("camera-loss@1s+2s")
    assert times_ms(items) == [k * 40 for k in range(100) if not 1_000 <= k * 40 < 3_000]
    assert events(items) == [("device_lost", 1.0, "camera"), ("device_back", 3.0, "camera")]
    assert gaps_s(items) == []
    for event_item in (item for item in items if isinstance(item, SourceEvent)):
        at = items.index(event_item)
        assert all(complete_ns(item) < event_item.t_ns for item in items[:at] if not isinstance(item, SourceEvent))
        assert complete_ns(items[at + 1]) >= event_item.t_ns  # type: ignore[arg-type]


@pytest.mark.parametrize("block", [160, 512, 1_600])
def test_a_lost_microphone_leaves_a_gap_to_the_sample_however_its_sound_is_cut(block: int) -> None:
    items = suffering("microphone-loss@1s+1500ms", media(block=block))
    assert gaps_s(items) == [(1.0, 2.5)]
    assert len(times_ms(items)) == 100
    assert events(items) == [("device_lost", 1.0, "microphone"), ("device_back", 2.5, "microphone")]


def test_a_device_that_the_stream_has_not_is_not_lost() -> None:
    assert events(suffering("camera-loss@1s+1s,microphone-loss@1s+1s", list(sound(4.0)))) == [
        ("device_lost", 1.0, "microphone"),
        ("device_back", 2.0, "microphone"),
    ]


def test_an_overrun_leaves_out_a_block_and_is_counted() -> None:
    source = ChaosSource(MadeSource(media()), parse("overrun@1s,overrun@2s+100ms,microphone-loss@3s+500ms"))
    assert gaps_s(list(source)) == [(1.0, 1.032), (2.0, 2.1), (3.0, 3.5)]
    assert source.health() == SourceHealth(overruns=2)


def test_noise_has_its_level_and_does_not_depend_on_how_the_sound_is_cut() -> None:
    def noise(block: int, seed: int = 0) -> np.ndarray:
        silent = list(sound(4.0, block=block, level=0.0))
        return np.concatenate([b.samples for b in suffering("noise=-40dB", silent, seed=seed)])  # type: ignore[union-attr]

    np.testing.assert_array_equal(noise(512), noise(333))
    assert np.sqrt(np.mean(noise(512) ** 2)) == pytest.approx(0.01, rel=0.02)
    assert abs(np.corrcoef(noise(512), noise(512, seed=1))[0, 1]) < 0.02


# drift


def clicks(at_s: list[float], duration_s: float) -> list[AudioBlock]:
    """Band-limited clicks: a short tone in a bell."""
    t_s = np.arange(round(duration_s * 16_000)) / 16_000
    samples = np.zeros(len(t_s), np.float32)
    for at in at_s:
        samples += (0.8 * np.exp(-(((t_s - at) / 0.001) ** 2))).astype(np.float32)
    return [AudioBlock(first=k, samples=samples[k : k + 512]) for k in range(0, len(samples), 512)]


def heard_at_s(blocks: list[AudioBlock], near_s: float) -> float:
    """Centre of the sound within 20 ms of a time."""
    samples = {b.first + k: value for b in blocks for k, value in enumerate(b.samples.tolist())}
    places = range(round((near_s - 0.02) * 16_000), round((near_s + 0.02) * 16_000))
    weights = [max(samples.get(k, 0.0), 0.0) for k in places]
    return sum(k * w for k, w in zip(places, weights, strict=True)) / sum(weights) / 16_000


@pytest.mark.parametrize("ppm", [200, -200, 5_000, -5_000])
def test_drift_lets_the_sound_part_from_the_picture_and_keeps_all_in_order(ppm: int) -> None:
    at_s = [1.0, 10.0, 29.0]
    pictures = frames(np.arange(0, 30, 0.04).tolist(), GREY[:2, :2])
    items = suffering(f"drift={ppm}ppm", in_order(clicks(at_s, 30.0), pictures))
    assert times_ms(items) == [k * 40 for k in range(750)]
    blocks = [item for item in items if isinstance(item, AudioBlock)]
    for at in at_s:
        expected = at * (1 + ppm * 1e-6)
        assert heard_at_s(blocks, expected) == pytest.approx(expected, abs=1 / 16_000)
    assert blocks[0].first == 0
    assert [b.first + len(b.samples) for b in blocks[:-1]] == [b.first for b in blocks[1:]]
    end = blocks[-1].first + len(blocks[-1].samples)
    assert end == pytest.approx(480_000 * (1 + ppm * 1e-6), abs=2)
    dues = [complete_ns(item) for item in items]  # type: ignore[arg-type]
    assert dues == sorted(dues)


def test_a_pause_in_drifting_sound_holds_no_picture_back_and_is_a_gap() -> None:
    pictures = frames(np.arange(0, 10, 0.04).tolist(), GREY[:2, :2])
    items = suffering("drift=1000ppm", in_order(sound(2.0), sound(2.0, start_s=8.0), pictures))
    ((start_s, end_s),) = [gap for gap in gaps_s(items, 10.02) if gap[0] < 9]
    assert (start_s, end_s) == (pytest.approx(2.002, abs=2e-4), pytest.approx(8.008, abs=2e-4))
    n_given, n_taken, most = 0, 0, 0

    def given_items() -> Iterator[Item]:
        nonlocal n_given
        for item in in_order(sound(2.0), pictures):
            n_given += isinstance(item, VideoFrame)
            yield item

    for item in drifting(given_items(), 1_000):
        n_taken += isinstance(item, VideoFrame)
        most = max(most, n_given - n_taken)
    assert most <= 5  # what the filter holds, and a pause is told from a run


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(1, 1_500), min_size=1, max_size=30), ppm=st.sampled_from([200, -200, 9_000]))
def test_stretched_sound_does_not_depend_on_how_it_was_cut(cuts: list[int], ppm: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 8_000).astype(np.float32)

    def stretched(edges: list[int]) -> np.ndarray:
        stretch = Stretch(ppm)
        blocks = [
            b for a, z in itertools.pairwise(edges) for b in stretch.push(AudioBlock(first=a, samples=samples[a:z]))
        ]
        return np.concatenate([b.samples for b in [*blocks, *stretch.flush()]])

    edges = sorted({0, 8_000, *(int(c) for c in np.cumsum(cuts) if c < 8_000)})
    np.testing.assert_array_equal(stretched(edges), stretched([0, 8_000]))


@pytest.mark.parametrize("ppm", [200, -5_000])
def test_a_microphone_with_a_fast_clock_counts_more_samples_in_the_same_time(ppm: int) -> None:
    came, n = list[Sound | Lost](), 480
    sink = DriftingSink(came.append, ppm)  # type: ignore[arg-type]
    tone = np.sin(np.arange(48_000 * 4) * 0.05).astype(np.float32)
    for k in range(400):
        at_ns = 77 + k * n * S // 48_000
        sink(
            Sound(
                first=k * n,
                samples=tone[k * n : (k + 1) * n],
                rate_hz=48_000,
                adc_ns=at_ns,
                arrived_ns=at_ns,
                overflowed=False,
            )
        )
    sink(Lost(at_ns=5, text="unplugged"))
    *sounds, lost = came
    assert isinstance(lost, Lost)
    assert [s.first + len(s.samples) for s in sounds[:-1]] == [s.first for s in sounds[1:]]  # type: ignore[union-attr]
    factor = 1 + ppm * 1e-6
    assert sounds[-1].first + len(sounds[-1].samples) == pytest.approx(48_000 * 4 * factor, abs=2)  # type: ignore[union-attr]
    for item in sounds:
        assert isinstance(item, Sound)
        assert item.adc_ns == pytest.approx(77 + item.first / factor * S / 48_000, abs=2)
    got = np.concatenate([item.samples for item in sounds])  # type: ignore[union-attr]
    expected = np.sin(np.arange(len(got)) / factor * 0.05)
    np.testing.assert_allclose(got[2_000:-2_000], expected[2_000:-2_000], atol=1e-3)


# stall and jitter


def played(text: str, clock: ManualClock, path: Path) -> list[tuple[Item, int]]:
    """What comes of a file at real-time speed, and what the clock then read."""
    source = MediaSource(str(path), speed=Speed.REALTIME, clock=clock)
    with ChaosSource(source, parse(text), seed=3, clock=clock) as chaos:
        return [(item, clock.now_ns()) for item in chaos if not isinstance(item, SourceEvent)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chaos") / "a.mkv"
    return write_media(path, video=Video(n_frames=50, rate_hz=25), audio=Audio(duration_s=2.0))


def test_a_stall_lets_nothing_through_and_then_all_at_once(clip: Path) -> None:
    usual = played("overrun@9s", ManualClock(5, jumps=True), clip)
    stalled = played("stall@500ms+1s", ManualClock(5, jumps=True), clip)
    assert [complete_ns(item) for item, _ in stalled] == [complete_ns(item) for item, _ in usual]  # type: ignore[arg-type]
    for (item, at_ns), (_, usual_ns) in zip(stalled, usual, strict=True):
        late = S // 2 <= complete_ns(item) < 3 * S // 2  # type: ignore[arg-type]
        assert at_ns == (5 + 3 * S // 2 if late else usual_ns)


def test_jitter_is_at_most_what_was_asked_for_in_order_and_drawn_from_the_seed(clip: Path) -> None:
    came = played("jitter=20ms", ManualClock(5, jumps=True), clip)
    late = np.array([at_ns - 5 - complete_ns(item) for item, at_ns in came])  # type: ignore[arg-type]
    assert late.min() >= 0
    assert late.max() <= 20_000_000
    assert late.std() > 3_000_000
    again = played("jitter=20ms", ManualClock(5, jumps=True), clip)
    assert [at_ns for _, at_ns in again] == [at_ns for _, at_ns in came]


def test_at_full_speed_stall_and_jitter_do_nothing_and_that_is_said() -> None:
    source = ChaosSource(MadeSource(media()), parse("stall@1s+1s,jitter=20ms"), clock=ManualClock())
    first, *rest = source
    assert first == SourceEvent(
        t_ns=0,
        kind="chaos",
        text="faults are made: stall@1s+1s,jitter=20ms; stall and jitter do nothing at full speed",
    )
    assert len(rest) == len(media())


def test_stop_ends_a_stall_at_once(clip: Path) -> None:
    clock = ManualClock(5)
    source = ChaosSource(MediaSource(str(clip), speed=Speed.REALTIME, clock=clock), parse("stall@0s+1min"), clock=clock)
    with source:
        came: list[Item] = []
        thread = threading.Thread(target=lambda: came.extend(source))
        thread.start()
        assert clock.await_waits(1)
        clock.advance(S)
        assert clock.await_waits(2)
        source.stop()
        thread.join(10)
        assert not thread.is_alive()
    assert [item.kind for item in came if isinstance(item, SourceEvent)] == ["chaos"]
    assert len(came) == 1


# the whole line


EVERYTHING = (
    "camera-loss@300ms+300ms,microphone-loss~1s+100ms,overrun~500ms,drift=5000ppm,noise=-30dB,stall@1s+1s,jitter=5ms"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small"))


def told(clip: Path, bundle: Bundle, *, seed: int = 0, text: str = EVERYTHING) -> Told:
    source = ChaosSource(MediaSource(str(clip), speed=Speed.MAX, name="a"), parse(text), seed=seed)
    return analyse(source, bundles=[bundle])


def test_the_same_seed_gives_the_same_to_the_byte_and_another_does_not(clip: Path, bundle: Bundle) -> None:
    first = told(clip, bundle)
    assert told(clip, bundle).essence == first.essence
    assert told(clip, bundle, seed=1).estimates != first.estimates
    assert len(first.estimates) == pytest.approx(40, abs=2)  # a hop each 50 ms


def test_speed_does_not_change_what_chaos_does(clip: Path, bundle: Bundle) -> None:
    clock = ManualClock(5, jumps=True)
    source = MediaSource(str(clip), speed=Speed.REALTIME, name="a", clock=clock)
    paced = analyse(ChaosSource(source, parse(EVERYTHING), clock=clock), bundles=[bundle], clock=clock)

    def plain(told: Told) -> list[object]:
        return [m for m in told.essence if not isinstance(m, Event) or m.kind != "chaos"]

    assert plain(paced) == plain(told(clip, bundle))


def test_a_line_says_what_goes_wrong_with_it(clip: Path, bundle: Bundle) -> None:
    lost = told(clip, bundle, text="camera-loss@500ms+500ms,microphone-loss@1s+500ms,overrun@250ms")
    assert [kind for kind, _ in lost.events] == ["chaos", "device_lost", "device_back", "device_lost", "device_back"]
    voices = [estimate.windows[-1].voice for estimate in lost.estimates]
    assert voices.count("gap") == pytest.approx(10, abs=2)  # half a second of hops of 50 ms
    assert lost.totals["dropped_audio_samples"] == 0


# what is not of the source


def test_slowed_engines_take_their_time_once_a_hop_and_score_the_same(bundle: Bundle) -> None:
    slept: list[float] = []
    with Engines() as engines:
        slowed = Slowed(engines, 3.0, slept.append)
        assert slowed.state(bundle) == engines.state(bundle)
        assert slowed.choose(bundle) == engines.choose(bundle)
        assert posteriors(bundle, slowed) == posteriors(bundle)
        assert slept == [1.0] * 20  # by voice alone: one graph of three, each hop
        slowed.seconds = 0.0
        posteriors(bundle, slowed)
        assert len(slept) == 20
        slowed.close()
        with Scorer(bundle, engines) as scorer:  # they are their owner's to close
            assert scorer.last_ms == 0.0


def posteriors(bundle: Bundle, engines: Engines | None = None) -> list[dict[str, float]]:
    messages = list[Message]()
    Session(MadeSource(sound(1.0)), [bundle], messages.append, SessionConfig(), engines=engines).run()
    return [message.posterior for message in messages if isinstance(message, Estimate)]


def test_a_subscriber_that_never_reads_costs_the_feed_nothing() -> None:
    n, body = 1_000, "x" * 20_000  # 20 MB: far more than the sockets' buffers
    sink = ZmqSink(ANY, subscriber_queue=50)
    with serving(sink, delivery=Delivery.WAIT) as feed, joined(sink) as quick, slow_subscriber(sink.address):
        receive(quick)  # the status again: the slow one has joined
        for i in range(n):
            feed.publish(event(text=body, t=float(i)))
            assert seqs([receive(quick)]) == [i]
    assert feed.n_dropped == 0
