"""Trajectories with known identities: whoever walks, crosses, hides and jitters keeps their id."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.perception.detection import Detection
from stream.perception.tracking import FaceTracker

STEP_NS = 80_000_000  # 12.5 Hz
MS = 1_000_000


def face(x: float, y: float, size: float = 60, score: float = 0.9) -> Detection:
    eyes = ((x - 0.2 * size, y - 0.1 * size), (x + 0.2 * size, y - 0.1 * size))
    return Detection(box=(x - size / 2, y - size / 2, size, size), eyes=eyes, score=score)


def ids(tracker: FaceTracker, t_ns: int, *faces: Detection) -> list[int]:
    return [track.person for track in tracker.update(t_ns, faces)]


def test_faces_of_the_first_frame_are_believed_at_once_from_left_to_right() -> None:
    tracker = FaceTracker()
    tracks = tracker.update(7, [face(300, 100), face(100, 100)])
    assert [(track.person, track.detection.centre) for track in tracks] == [(1, (100, 100)), (2, (300, 100))]
    assert [(event.t_ns, event.kind, event.person) for event in tracker.events()] == [
        (7, "face_found", 1),
        (7, "face_found", 2),
    ]
    assert tracker.events() == []


def test_a_later_face_is_reported_once_seen_twice_over_100_ms() -> None:
    tracker = FaceTracker()
    assert ids(tracker, 0) == []
    assert ids(tracker, 80 * MS, face(100, 100)) == []
    assert ids(tracker, 160 * MS, face(100, 100)) == []  # twice, but 80 ms
    assert tracker.n_persons == 0
    assert ids(tracker, 240 * MS, face(100, 100)) == [1]
    assert [(event.t_ns, event.kind) for event in tracker.events()] == [(240 * MS, "face_found")]


def test_a_flicker_of_one_frame_is_never_reported() -> None:
    tracker = FaceTracker()
    seen = [ids(tracker, k * STEP_NS, *([face(100, 100)] if k % 8 == 3 else [])) for k in range(40)]
    assert seen == [[]] * 40
    assert tracker.events() == []


def test_ids_ascend_in_order_of_confirmation_not_of_appearance() -> None:
    tracker = FaceTracker()
    ids(tracker, 0)
    ids(tracker, 80 * MS, face(100, 100))
    ids(tracker, 160 * MS, face(400, 100))
    ids(tracker, 240 * MS, face(400, 100))
    assert ids(tracker, 280 * MS, face(400, 100)) == [1]
    tracks = tracker.update(300 * MS, [face(100, 100), face(400, 100)])
    assert [(track.person, track.detection.centre) for track in tracks] == [(1, (400, 100)), (2, (100, 100))]


def test_a_person_keeps_the_id_for_two_seconds_and_is_then_lost() -> None:
    for away_ns, expected in ((2_000 * MS, 1), (2_001 * MS, 2)):
        tracker = FaceTracker()
        ids(tracker, 0, face(100, 100))
        assert ids(tracker, 1_000 * MS) == []
        assert tracker.n_persons == 1
        seen = [ids(tracker, away_ns + k * STEP_NS, face(100, 100)) for k in range(3)]
        assert seen[-1] == [expected]
        lost = [(event.t_ns, event.person) for event in tracker.events() if event.kind == "face_lost"]
        assert lost == ([] if expected == 1 else [(away_ns, 1)])


def test_somebody_else_elsewhere_gets_a_new_id_while_the_first_is_awaited() -> None:
    tracker = FaceTracker()
    ids(tracker, 0, face(100, 100))
    seen = [ids(tracker, k * STEP_NS, face(500, 120)) for k in range(1, 6)]
    assert seen == [[], [], [2], [2], [2]]
    assert tracker.n_persons == 2


def test_a_face_of_quite_another_size_is_somebody_else() -> None:
    tracker = FaceTracker()
    ids(tracker, 0, face(100, 100, size=150))
    assert [ids(tracker, k * STEP_NS, face(100, 100, size=40)) for k in range(1, 4)] == [[], [], [2]]


def cross(offset_px: float, hidden: Callable[[float], bool]) -> list[list[tuple[int, float]]]:
    """Two people walk past each other at 250 px/s; the further one is hidden while `hidden(distance)`."""
    tracker, seen = FaceTracker(), []
    for k in range(50):
        t_s = k * STEP_NS / 1e9
        near, far = face(50 + 250 * t_s, 150, 70), face(950 - 250 * t_s, 150 + offset_px, 55)
        faces = [near] if hidden(abs(near.centre[0] - far.centre[0])) else [far, near]
        seen.append([(track.person, track.detection.size_px) for track in tracker.update(k * STEP_NS, faces)])
    return seen


@pytest.mark.parametrize("offset_px", [0, 10, 40])
def test_two_people_who_cross_keep_their_ids(offset_px: float) -> None:
    for hidden in (lambda distance: False, lambda distance: distance < 60):
        for tracks in cross(offset_px, hidden):
            assert dict(tracks).get(1) in (70, None)
            assert dict(tracks).get(2) in (55, None)
        assert [person for person, _ in tracks] == [1, 2]


def test_one_leaves_and_another_enters_across_the_frame() -> None:
    tracker = FaceTracker()
    for k in range(12):  # walks out on the left
        ids(tracker, k * STEP_NS, face(200 - 15 * k, 100))
    seen = [ids(tracker, k * STEP_NS, face(640 - 10 * (k - 14), 110)) for k in range(14, 44)]
    assert seen == [[], [], *[[2]] * 28]
    kinds = [(event.kind, event.person) for event in tracker.events()]
    assert kinds == [("face_found", 1), ("face_found", 2), ("face_lost", 1)]


def test_a_false_face_beside_somebody_does_not_take_their_id() -> None:
    tracker = FaceTracker()
    for k in range(30):
        x = 100 + 12 * k
        tracks = tracker.update(k * STEP_NS, [face(x + 40, 110, 50)] * (k % 3 == 1) + [face(x, 100)])
        assert (1, x) in [(track.person, track.detection.centre[0]) for track in tracks]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n_people=st.integers(1, 4),
    jitter=st.floats(0, 0.08),
    miss=st.floats(0, 0.4),
)
def test_people_who_stay_apart_keep_their_ids_through_jitter_and_misses(
    seed: int, n_people: int, jitter: float, miss: float
) -> None:
    draw, tracker = random.Random(seed), FaceTracker()
    sizes = [draw.uniform(30, 90) for _ in range(n_people)]
    phases = [draw.uniform(0, 2 * math.pi) for _ in range(n_people)]
    identity: dict[int, int] = {}
    for k in range(80):
        faces: list[tuple[int, Detection]] = []
        for who in range(n_people):
            if k > 0 and draw.random() < miss:
                continue
            shake = jitter * sizes[who]
            x = 150 + 300 * who + 60 * math.sin(k * STEP_NS / 1e9 + phases[who]) + draw.uniform(-shake, shake)
            y = 200 + 40 * math.cos(k * STEP_NS / 1e9 + phases[who]) + draw.uniform(-shake, shake)
            faces.append((who, face(x, y, sizes[who] * (1 + draw.uniform(-jitter, jitter)))))
        draw.shuffle(faces)
        by_box = {one.box: who for who, one in faces}
        for track in tracker.update(k * STEP_NS, [one for _, one in faces]):
            who = by_box[track.detection.box]
            assert identity.setdefault(track.person, who) == who
        assert len(tracker.events()) == (n_people if k == 0 else 0)
    assert sorted(identity) == list(range(1, n_people + 1))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_detections_changes_nothing(seed: int) -> None:
    draw, one, other = random.Random(seed), FaceTracker(), FaceTracker()
    for k in range(25):
        faces = [
            face(draw.uniform(0, 640), draw.uniform(0, 360), draw.uniform(20, 120)) for _ in range(draw.randint(0, 5))
        ]
        assert one.update(k * STEP_NS, faces) == other.update(k * STEP_NS, draw.sample(faces, len(faces)))
    assert one.events() == other.events()


def test_the_expected_place_moves_on_for_half_a_second() -> None:
    tracker = FaceTracker()
    for k in range(20):
        ids(tracker, k * STEP_NS, face(100 + 8 * k, 100))
    last_ns = 19 * STEP_NS
    [((x, y), size)] = tracker.expected(last_ns + STEP_NS)
    assert (x, y) == pytest.approx((100 + 8 * 20, 100), abs=0.01)
    assert size == 60
    [((far, _), _)] = tracker.expected(last_ns + 1_900 * MS)
    assert far == pytest.approx(100 + 8 * 19 + 50, abs=0.01)  # 100 px/s for 0.5 s


def test_time_must_advance() -> None:
    tracker = FaceTracker()
    tracker.update(5, [])
    with pytest.raises(ValueError, match="expected a frame after 5 ns, got one at 5 ns"):
        tracker.update(5, [])
    with pytest.raises(ValueError, match="got -1 and 5"):
        FaceTracker(confirm_ns=-1, lose_ns=5)
