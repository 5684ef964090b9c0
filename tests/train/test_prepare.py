"""The preprocessing cache: what the stream's own perception gives, made once, whole, or reported."""

import dataclasses
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from engines.bundle import FaceInput
from stream.perception.views import Perception, View
from stream.records import AudioBlock, FrameFaces, VideoFrame
from stream.sources.media import MediaSource, Speed
from tests.media_files import Audio, Video, damage, number_of, numbered, tone, truncate, write_media
from tools.replaying.demo_clip import picture, read_portrait
from train.corpora.clips import Clip, ClipCorpus, Fold
from train.corpora.items import CorpusError
from train.preparation import cache
from train.preparation import jobs as prepare_jobs
from train.preparation.leave_out import read_names, without
from train.preparation.prepare import Store
from train.preparation.prepare import prepare as prepare_with_bar
from train.preparation.prepared import Needs, Prepared

ROOT = Path(__file__).parents[2]
FACE = FaceInput(size_px=48, align="eyes")
SCENE = FaceInput(size_px=32, align="frame")
FAST, SLOW = Needs(face=SCENE, frame_hz=25), Needs(face=SCENE, frame_hz=5)
prepare = partial(prepare_with_bar, progress=False)


def clip(path: Path, **more: Any) -> Clip:
    return dataclasses.replace(Clip(name=f"mini/{path.stem}", path=path, label=0, person="mini/1"), **more)


def corpus(*clips: Clip, folds: tuple[Fold, ...] = ()) -> ClipCorpus:
    return ClipCorpus(name="mini", labels=("a",), clips=clips, folds=folds, protocol="none")


def silent(t_s: np.ndarray) -> np.ndarray:
    return 0.001 * tone(t_s)


def film(path: Path, n_frames: int = 8, *, pictures: Callable[[int, int, int], np.ndarray] = numbered) -> Path:
    return write_media(path, video=Video(n_frames=n_frames, picture=pictures), audio=Audio(duration_s=n_frames / 25))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.clip")}


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real face for 0.8 s, but for the pictures 8 to 13, which are empty; with a tone."""
    portrait = read_portrait()

    def scene(i: int, height_px: int, width_px: int) -> np.ndarray:
        return numbered(3, height_px, width_px) if 8 <= i < 14 else picture(portrait, i / 25)

    video = Video(width_px=400, height_px=400, n_frames=20, picture=scene)
    path = tmp_path_factory.mktemp("talking") / "talking.mkv"
    return write_media(path, video=video, audio=Audio(duration_s=0.8))


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """Four different short films without a face."""
    folder = tmp_path / "films"
    folder.mkdir()
    return [film(folder / f"film{n}.mkv", n) for n in (6, 7, 8, 9)]


def streamed(path: Path, view: View) -> tuple[list[FrameFaces], np.ndarray]:
    """What the stream's own source and perception make of a file."""
    seen, samples = [], np.zeros(0, np.float32)
    with Perception([view]) as perception, MediaSource(str(path), speed=Speed.MAX) as source:
        for item in source:
            if isinstance(item, VideoFrame) and (one := perception.process(item)[0]) is not None:
                seen.append(one)
            elif isinstance(item, AudioBlock):
                assert item.first == len(samples)
                samples = np.append(samples, item.samples)
    return seen, samples


def there(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array


def test_a_clip_is_what_the_stream_sees_and_hears(talking: Path, tmp_path: Path) -> None:
    needs = Needs(face=FACE, frame_hz=12.5, flow="farneback")
    store = prepare(corpus(clip(talking)), needs, tmp_path, workers=1)
    assert (len(store), store.n_made, store.left_out) == (1, 1, ())
    got = store[0]
    seen, samples = streamed(talking, View(FACE, rate_hz=12.5, flow="farneback"))
    kept = [one for one in seen if one.faces]
    assert (len(seen), len(kept)) == (10, 7)  # pictures 8, 10 and 12 show nobody and are left out
    assert got.times_s.tolist() == [one.t_ns / 1e9 for one in kept]
    assert there(got.seen).tolist() == [True] * 7
    assert np.array_equal(there(got.crops), np.stack([one.faces[0].crop for one in kept]))
    assert len(there(got.samples)) == len(samples) == 12_800
    assert np.abs(there(got.samples) - samples).max() <= 1.001 / 65_534
    flows = [one.faces[0].flow for one in kept]
    assert [flow is None for flow in flows] == [k in (0, 4) for k in range(7)]
    for stored, flow in zip(there(got.flow), [flows[1], *flows[1:4], flows[5], *flows[5:]], strict=True):
        assert np.abs(there(flow)).max() > 0.1
        assert np.abs(stored - there(flow)).max() <= 1 / 32


def test_the_whole_picture_stands_in_where_there_is_no_face(talking: Path, tmp_path: Path) -> None:
    face = msgspec.structs.replace(FACE, fallback="frame")
    got = prepare(corpus(clip(talking)), Needs(face=face), tmp_path, workers=1)[0]
    seen, _ = streamed(talking, View(face, rate_hz=12.5))
    assert there(got.seen).tolist() == [bool(one.faces) for one in seen] == [True] * 4 + [False] * 3 + [True] * 3
    wanted = [one.faces[0] if one.faces else one.whole for one in seen]
    assert np.array_equal(there(got.crops), np.stack([face.crop for face in wanted if face is not None]))
    large = msgspec.structs.replace(SCENE, size_px=224, fallback="frame")
    coded = there(prepare(corpus(clip(talking)), Needs(face=large), tmp_path, workers=1)[0].crops)
    plain = [there(one.whole.crop) for one in streamed(talking, View(large, rate_hz=12.5))[0] if one.whole is not None]
    off = np.abs(coded.astype(int) - plain)
    assert off.mean() < 1.5
    assert 0 < off.max() < 32


def test_a_recogniser_of_whole_pictures_sees_them_all_and_one_that_listens_none(talking: Path, tmp_path: Path) -> None:
    scene = prepare(corpus(clip(talking)), Needs(face=SCENE, frame_hz=25, audio=False), tmp_path, workers=1)[0]
    assert there(scene.crops).shape == (20, 32, 32, 3)
    assert there(scene.seen).all()
    assert np.abs(there(scene.crops)[8:14].astype(int) - 44).max() <= 3  # the empty ones, level 20 + 8 * 3
    assert (scene.samples, scene.flow, scene.pose, scene.body) == (None,) * 4
    sound = prepare(corpus(clip(talking)), Needs(face=None), tmp_path, workers=1)[0]
    assert (sound.crops, sound.seen, len(sound.times_s)) == (None, None, 0)
    assert len(there(sound.samples)) == 12_800


@pytest.mark.parametrize(("n_right", "person"), [(8, 2), (3, 1)])
def test_the_person_in_most_pictures_is_the_clips_and_among_equals_the_largest(
    tmp_path: Path, n_right: int, person: int
) -> None:
    large = read_portrait()
    small = cv2.resize(large, (320, 320), interpolation=cv2.INTER_AREA)

    def scene(i: int, height_px: int, width_px: int) -> np.ndarray:
        image = numbered(9, height_px, width_px)
        image[:320, :320] = small
        if i < n_right:
            image[:, 320:] = large
        return image

    video = Video(width_px=720, height_px=400, n_frames=8, picture=scene)
    path = write_media(tmp_path / "two.mkv", video=video, audio=Audio(duration_s=0.32))
    got = prepare(corpus(clip(path)), Needs(face=FACE, frame_hz=25), tmp_path / "cache", workers=1)[0]
    seen, _ = streamed(path, View(FACE, rate_hz=25))
    assert [len(one.faces) for one in seen] == [2] * n_right + [1] * (8 - n_right)
    crops = [face.crop for one in seen for face in one.faces if face.person == person]
    assert np.array_equal(there(got.crops), np.stack(crops))


def test_pose_is_the_streams_own(talking: Path, tmp_path: Path) -> None:
    needs = Needs(face=None, pose=True, audio=False)
    got = prepare(corpus(clip(talking)), needs, tmp_path, workers=1)[0]
    seen, _ = streamed(talking, View(msgspec.structs.replace(SCENE, fallback="frame"), rate_hz=12.5, pose=True))
    poses = np.stack([there(one.whole.pose) for one in seen if one.whole is not None])
    assert np.array_equal(there(got.pose), poses)
    assert there(got.body).tolist() == [True] * 4 + [False] * 3 + [True] * 3
    assert (got.crops, got.seen, got.samples) == (None, None, None)


@pytest.fixture
def dialogue(tmp_path: Path) -> tuple[Path, Path]:
    """A long recording of two speakers side by side, each picture numbered on its left half; its sound elsewhere."""

    def scene(i: int, height_px: int, width_px: int) -> np.ndarray:
        image = numbered(i, height_px, width_px)
        image[:, width_px // 2 :] = 250
        return image

    def rising(t_s: np.ndarray) -> np.ndarray:
        return np.asarray(0.1 * (1 + np.floor(t_s * 5)) * tone(t_s))

    video = Video(width_px=128, n_frames=26, picture=scene, codec="mpeg4", options=(("qscale", "2"),))
    return (
        write_media(tmp_path / "dialogue.avi", video=video, audio=Audio(duration_s=1.04, sound=silent)),
        write_media(tmp_path / "dialogue.wav", audio=Audio(rate_hz=16_000, duration_s=1.04, sound=rising)),
    )


def test_segments_of_a_recording_with_sound_of_its_own(dialogue: tuple[Path, Path], tmp_path: Path) -> None:
    path, audio = dialogue
    cut = partial(clip, path, audio=audio)
    first = cut(name="mini/a", start_s=0.2, end_s=0.6, side="left")
    second = cut(name="mini/b", start_s=0.5, end_s=0.72, side="right")
    third = cut(name="mini/c", start_s=0.9)
    store = prepare(corpus(first, second, third), FAST, tmp_path / "cache", workers=1)
    a, b, c = (store[k] for k in range(3))
    assert a.times_s == pytest.approx(np.arange(10) / 25)
    assert b.times_s == pytest.approx(np.arange(0.02, 0.2, 0.04))
    assert [number_of(crop) for crop in there(a.crops)] == list(range(5, 15))
    assert there(b.crops).min() > 240
    assert c.times_s == pytest.approx([0.02, 0.06, 0.1])
    _, whole = streamed(audio, View(SCENE, rate_hz=25))
    for got, start, end in ((a, 3200, 9600), (b, 8000, 11_520), (c, 14_400, 16_640)):
        assert len(there(got.samples)) == end - start
        assert np.abs(there(got.samples) - whole[start:end]).max() <= 1.001 / 65_534
    # Reading a file once for all its clips gives what reading it for each gives.
    for one in (first, second, third):
        prepare(corpus(one), FAST, tmp_path / "alone", workers=1)
    assert files(tmp_path / "alone") == files(tmp_path / "cache")


def test_a_killed_run_goes_on_where_it_was(films: list[Path], tmp_path: Path) -> None:
    whole, folder = corpus(*map(clip, films)), tmp_path / "cache"
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.train.test_prepare import FAST, clip, corpus, prepare\n"
        "renamed = []\n"
        "def watch(event, arguments):\n"
        "    if event == 'os.rename':\n"
        "        renamed.append(event)\n"
        "        if len(renamed) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(watch)\n"
        "films = [Path(name) for name in sys.argv[2:]]\n"
        "prepare(corpus(*map(clip, films)), FAST, Path(sys.argv[1]), workers=1)\n"
    )
    command = [sys.executable, "-c", script, str(folder), *map(str, films)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = files(folder)
    assert (len(before), len(list(folder.rglob("*.part")))) == (2, 1)
    store = prepare(whole, FAST, folder, workers=1)
    assert (store.n_made, len(store)) == (2, 4)
    assert before.items() <= files(folder).items()
    assert prepare(whole, FAST, folder, workers=1).n_made == 0
    [part] = folder.rglob("*.part")
    os.utime(part, (0, 0))
    prepare(whole, FAST, folder, workers=1)
    assert not part.exists()


def test_content_decides_what_is_made_anew(films: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert prepare(corpus(*map(clip, films)), FAST, folder, workers=1).n_made == 4
    os.utime(films[0], (1, 1))
    moved = films[1].rename(films[1].with_name("other.mkv"))
    renamed = corpus(clip(films[0]), clip(moved, name="mini/new"), clip(films[2]))
    store = prepare(renamed, FAST, folder, workers=1)
    assert store.n_made == 0
    assert [one.name for one in (store[k] for k in range(3))] == ["mini/film6", "mini/new", "mini/film8"]
    film(films[2], 10)
    assert prepare(renamed, FAST, folder, workers=1).n_made == 1
    assert len(files(folder)) == 5


def test_needs_bounds_and_sides_do_not_collide(films: list[Path], tmp_path: Path) -> None:
    one = clip(films[3])
    variants: list[tuple[Clip, Needs, int]] = [
        (one, FAST, 9),
        (one, SLOW, 2),
        (one, dataclasses.replace(FAST, audio=False), 9),
        (one, dataclasses.replace(FAST, flow="dis"), 9),
        (one, dataclasses.replace(FAST, face=msgspec.structs.replace(SCENE, size_px=40)), 9),
        (dataclasses.replace(one, end_s=0.2), FAST, 5),
        (dataclasses.replace(one, start_s=0.1), FAST, 6),
        (dataclasses.replace(one, side="right"), FAST, 9),
    ]
    for twice in range(2):
        for which, needs, n in variants:
            store = prepare(corpus(which), needs, tmp_path, workers=1)
            assert (store.n_made, len(store[0].times_s)) == (1 - twice, n)
    assert len(files(tmp_path)) == len(variants)
    exact = dataclasses.replace(FAST, frame_hz=25.0)
    assert prepare(corpus(clip(films[3], label=3)), exact, tmp_path, workers=1).n_made == 0


def test_two_processes_make_the_same_files_as_one(films: list[Path], talking: Path, tmp_path: Path) -> None:
    both = corpus(clip(talking), *map(clip, films))
    needs = Needs(face=msgspec.structs.replace(FACE, fallback="frame"), flow="lucas-kanade")
    for n in (1, 2):
        assert prepare(both, needs, tmp_path / str(n), workers=n).n_made == 5
    assert files(tmp_path / "1") == files(tmp_path / "2")
    assert len(files(tmp_path / "1")) == 5
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("harm", [lambda content: content[:-7], lambda content: content[:99] + b"?" + content[100:]])
def test_a_damaged_file_of_the_cache_is_made_anew(
    films: list[Path], tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    some = corpus(*map(clip, films[:2]))
    store = prepare(some, FAST, tmp_path / "cache", workers=1)
    good = files(tmp_path / "cache")
    store.files[1].write_bytes(harm(store.files[1].read_bytes()))
    assert len(store[0].times_s) == 6
    with pytest.raises(CorpusError, match=r"mini/film7: .* is damaged; prepare the corpus again"):
        store[1]
    assert prepare(some, FAST, tmp_path / "cache", workers=1).n_made == 1
    assert files(tmp_path / "cache") == good


def noisy(i: int, height_px: int, width_px: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def bad_clips(folder: Path, good: Path) -> dict[str, tuple[Clip, str]]:
    """One clip of each kind that cannot be used, by name, with what is to be said of it."""
    folder.mkdir()
    (folder / "text.mkv").write_text("no film")
    wav = write_media(folder / "wav.wav", audio=Audio())
    mute = write_media(folder / "mute.mkv", video=Video(n_frames=9))
    hush = write_media(folder / "hush.mkv", video=Video(n_frames=9), audio=Audio(duration_s=0.36, sound=silent))
    empty = write_media(folder / "empty.mkv", video=Video(n_frames=0), audio=Audio(duration_s=0.5))
    whole = write_media(folder / "whole.mp4", video=Video(), audio=Audio(codec="aac"))
    cut = truncate(write_media(folder / "long.avi", video=Video(n_frames=50), audio=Audio(duration_s=2)), 0.5)
    coarse = Video(n_frames=100, codec="mpeg4", options=(("g", "5"),), picture=noisy)
    torn = damage(write_media(folder / "torn.ts", video=coarse, audio=Audio(codec="aac", duration_s=4)), 0.4, 0.45)
    found = [
        (clip(folder / "absent.mkv"), "cannot read .*: No such file"),
        (clip(folder / "text.mkv"), "expected a media file"),
        (clip(truncate(whole, 0.5)), "expected a media file"),
        (clip(cut), "truncated: "),
        (clip(torn), "damaged: "),
        (clip(wav), "it has no picture"),
        (clip(mute), "it has no sound"),
        (clip(hush), "it is silent: its loudest 50 ms have -6[0-9] dBFS, less than -55"),
        (clip(empty), "it has no picture"),
        (clip(film(folder / "faceless.mkv")), "none of its 4 pictures shows a face"),
        (clip(film(folder / "short.mkv", 2)), "its picture lasts 0.080 s, less than the 0.1 s of an analysis window"),
        (clip(good, name="mini/beyond", start_s=0.4, end_s=1.2), "its picture ends at 0.80 s, the clip at 1.20 s"),
        (clip(good, name="mini/after", start_s=3.0, end_s=4.0), "it has no picture; it has no sound"),
    ]
    return {one.name: (one, reason) for one, reason in found}


def test_all_bad_clips_are_in_one_report_and_can_be_left_out(talking: Path, tmp_path: Path) -> None:
    bad, folder = bad_clips(tmp_path / "bad", talking), tmp_path / "cache"
    clips = sorted([clip(talking), *(one for one, _ in bad.values())], key=lambda one: one.name)
    good = [one.name for one in clips].index("mini/talking")
    folds = (Fold(name="1", train=tuple(range(good + 1)), test=(good,)),)
    whole, needs = corpus(*clips, folds=folds), Needs(face=FACE)
    with pytest.raises(CorpusError) as caught:
        prepare(whole, needs, folder, workers=1)
    listing = folder / "mini-bad-clips.txt"
    text = str(caught.value)
    assert text.startswith("13 of 14 clips of mini cannot be used: mini/absent (cannot read")
    assert f" ...; {listing} lists all" in text
    assert "leave them out on purpose" in text
    lines = dict(line.split("\t") for line in listing.read_text().splitlines()[1:])
    assert lines.keys() == bad.keys()
    for name, (_, reason) in bad.items():
        assert re.search(reason, lines[name]), (name, lines[name])
    assert len(files(folder)) == 1  # the good one is there already
    store = prepare(whole, needs, folder, workers=1, leave_out=read_names(listing))
    assert (store.n_made, len(store), store.left_out) == (0, 1, tuple(sorted(bad)))
    assert store.corpus.folds == (Fold(name="1", train=(0,), test=(0,)),)
    assert store[0].name == store.corpus.clips[0].name == "mini/talking"
    assert read_names(listing) == tuple(sorted(bad))  # it is the user's now


def test_what_is_silent_is_the_recognisers_word(tmp_path: Path) -> None:
    quiet = write_media(tmp_path / "a.wav", audio=Audio(duration_s=1.0, sound=lambda t_s: 3e-4 * np.sin(2764 * t_s)))
    listens = Needs(face=None)
    with pytest.raises(CorpusError, match="it is silent: its loudest 50 ms have -73 dBFS, less than -55"):
        prepare(corpus(clip(quiet)), listens, tmp_path / "cache", workers=1)
    store = prepare(
        corpus(clip(quiet)), dataclasses.replace(listens, silence_dbfs=-100.0), tmp_path / "cache", workers=1
    )
    assert store[0].samples is not None


def test_clips_left_out_before_stay_in_the_list_of_bad_ones(talking: Path, tmp_path: Path) -> None:
    bad = bad_clips(tmp_path / "bad", talking)
    known, *others = sorted(bad)
    whole = corpus(*sorted([clip(talking), *(bad[name][0] for name in (known, *others[:2]))], key=lambda one: one.name))
    with pytest.raises(CorpusError, match=r"2 of 3 clips of mini cannot be used"):
        prepare(whole, Needs(face=FACE), tmp_path / "cache", workers=1, leave_out=[known])
    listing = tmp_path / "cache" / "mini-bad-clips.txt"
    assert set(read_names(listing)) == {known, *others[:2]}
    assert len(prepare(whole, Needs(face=FACE), tmp_path / "cache", workers=1, leave_out=read_names(listing))) == 1


class Deadly(type(Path())):  # type: ignore[misc]
    """A path that kills the process which opens it, if that is not the test's own."""

    def __str__(self) -> str:
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return str(super().__str__())


def test_a_process_that_dies_is_reported_and_the_others_go_on(films: list[Path], tmp_path: Path) -> None:
    clips = [clip(films[0]), dataclasses.replace(clip(films[1]), path=Deadly(films[1])), *map(clip, films[2:])]
    jobs = [{tmp_path / f"{k}.clip": one} for k, one in enumerate(clips)]
    done = dict(prepare_jobs.run(jobs, FAST, 2))
    died = {path.name: problem for path, problem in done.items() if problem is not None}
    assert died == {"1.clip": "the process that prepared it was killed by signal 9"}
    assert sorted(path.name for path in tmp_path.glob("*.clip")) == ["0.clip", "2.clip", "3.clip"]


def test_an_interrupted_run_leaves_no_process(films: list[Path], tmp_path: Path) -> None:
    running = prepare_jobs.run([{tmp_path / f"{k}.clip": clip(path)} for k, path in enumerate(films)], FAST, 2)
    next(running)
    assert len(multiprocessing.active_children()) == 2
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt())
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cache_that_cannot_be_written_is_one_clear_error(films: list[Path], tmp_path: Path, workers: int) -> None:
    (tmp_path / "taken").write_text("a file, where a folder is wanted")
    jobs = [{tmp_path / "taken" / f"{k}.clip": clip(path)} for k, path in enumerate(films[:2])]
    with pytest.raises(CorpusError, match=r"cannot write .*clip: .*; make room, or choose another cache folder"):
        list(prepare_jobs.run(jobs, FAST, workers))
    with pytest.raises(CorpusError, match=r"cannot write the cache .*taken: .*; choose another folder"):
        prepare(corpus(*map(clip, films)), FAST, tmp_path / "taken", workers=workers)


def test_names_to_leave_out_must_be_known_and_leave_every_fold_something(films: list[Path]) -> None:
    whole = corpus(*map(clip, films), folds=(Fold(name="1", train=(0, 1, 2), test=(3,)),))
    assert without(whole, ["mini/film7"]).folds == (Fold(name="1", train=(0, 1), test=(2,)),)
    with pytest.raises(CorpusError, match="got 1 that it does not have: mini/film66; correct or remove them"):
        without(whole, ["mini/film66", "mini/film6"])
    with pytest.raises(CorpusError, match="fold 1 of mini is empty without the 1 clips left out"):
        without(whole, ["mini/film9"])


@pytest.mark.parametrize(
    ("needs", "workers", "text"),
    [
        (Needs(face=None, flow="dis"), 1, "expected the geometry of the crops that flow is between"),
        (Needs(face=None, audio=False), 1, "expected needs of pictures, pose or sound, got none"),
        (FAST, 0, "expected at least one worker, got 0"),
    ],
)
def test_needs_that_contradict_themselves_are_refused(tmp_path: Path, needs: Needs, workers: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        prepare(corpus(), needs, tmp_path, workers=workers)


def test_what_is_stored_comes_back_within_its_bounds(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    flow = draw.normal(0, 20, (3, 16, 16, 2)).astype(np.float32)
    pose, body = draw.normal(0, 1, (3, 33, 3)).astype(np.float32), np.array([True, False, True])
    samples = np.array([0.3, -1.5, 1e-6, 0.0], np.float32)  # lossy codecs overshoot full scale
    cache.write(
        tmp_path / "x.clip",
        Prepared(name="a", times_s=np.array([0, 0.1, 0.3]), flow=flow, pose=pose, body=body, samples=samples),
    )
    got = cache.read(tmp_path / "x.clip", "b")
    assert (got.name, got.crops, got.times_s.tolist()) == ("b", None, [0, 0.1, 0.3])
    assert np.abs(there(got.flow) - flow).max() <= 1 / 32
    assert np.abs(there(got.samples) - samples).max() <= 1.001 * 1.5 / 65_534
    assert np.array_equal(there(got.pose), pose)
    assert np.array_equal(there(got.body), body)
    assert {there(array).dtype.name for array in (got.flow, got.samples, got.pose)} == {"float32"}


def test_a_store_is_read_by_many_threads(films: list[Path], tmp_path: Path) -> None:
    store: Store = prepare(corpus(*map(clip, films)), FAST, tmp_path, workers=1)
    with ThreadPoolExecutor(4) as pool:
        lengths = list(pool.map(lambda k: len(store[k % 4].times_s), range(40)))
    assert lengths == [6, 7, 8, 9] * 10
