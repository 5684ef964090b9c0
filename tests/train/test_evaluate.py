"""Evaluation of the shipped bundle on miniature corpora, against loops: its figures change with its weights."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.bundle import Bundle, PerModality, load
from engines.onnx_runtime import OnnxEngine
from stream.aggregation import calibrate
from stream.config import window_scheme
from tests import corpora_files as made
from train import voices as speech
from train.corpora import ferplus
from train.corpora.items import CorpusError
from train.evaluate import Recogniser, Spoken, evaluate, match, score_pairs, score_voices
from train.metrics import measure


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load("default")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("corpora")
    return {
        "ferplus": made.even_ferplus(root / "ferplus", train=1, valid=2),
        "ravdess": made.ravdess(root / "ravdess", suffix=".flac"),
        "emodb": made.emodb(root / "emodb", suffix=".opus"),
    }


def spoken(label: int, n_windows: int = 2) -> Spoken:
    return Spoken(features=np.zeros((n_windows, 3)), posterior=np.full(7, 1 / 7), label=label, corpus="made")


def test_pairs_have_one_label_and_are_the_same_each_time() -> None:
    voices = [spoken(label) for label in (0, 1, 1, 4, 0, 1)]
    faces = np.array([0, 1, 2, 4, 1, 1, 0] * 20)
    pairs = match(faces, voices, seed=3)
    assert [face for face, _ in pairs] == [k for k, label in enumerate(faces) if label != 2]  # nobody says 2
    assert all(faces[face] == voices[voice].label for face, voice in pairs)
    assert {voice for _, voice in pairs} == set(range(6))
    assert pairs == match(faces, voices, seed=3)
    assert pairs != match(faces, voices, seed=4)
    assert match(np.array([2, 3]), voices) == []


def test_voices_are_the_mean_of_their_windows(bundle: Bundle, folders: dict[str, Path]) -> None:
    voices = speech.load([("emodb", folders["emodb"])], "valid")
    scheme = window_scheme(bundle, None)
    engine = OnnxEngine(bundle.stage("audio_encoder"))
    scored = score_voices(Recogniser(bundle), voices, scheme, seed=2)
    assert [s.label for s in scored] == voices.labels.tolist()
    assert {s.corpus for s in scored} == {"emodb"}
    for one, samples, utterance in zip(scored, voices.samples, voices.utterances, strict=True):
        windows = speech.windows_of(samples, utterance.name, scheme, 2)
        singles = [engine.run({"waveform": window[None]}) for window in windows]
        np.testing.assert_allclose(one.posterior, np.mean([s["posterior"][0] for s in singles], 0), atol=1e-5)
        np.testing.assert_allclose(one.features, [s["features"][0] for s in singles], atol=1e-4)


def test_faces_of_another_size_are_scaled_and_grey_is_repeated(bundle: Bundle, folders: dict[str, Path]) -> None:
    images = ferplus.read(folders["ferplus"], "valid").images[:3]
    recogniser, engine = Recogniser(bundle), OnnxEngine(bundle.stage("frame_encoder"))
    expected = engine.run({"crop": np.stack([images] * 3, axis=-1)})
    np.testing.assert_allclose(recogniser.faces(images).posterior, expected["posterior"], atol=1e-6)
    doubled = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)  # scaled by area it is the picture again
    np.testing.assert_allclose(recogniser.faces(doubled).features, expected["features"], atol=1e-5)


def test_pairs_are_joined_window_by_window(bundle: Bundle, folders: dict[str, Path]) -> None:
    recogniser, head = Recogniser(bundle), OnnxEngine(bundle.stage("head"))
    faces = recogniser.faces(ferplus.read(folders["ferplus"], "valid").images[:2])
    voices = speech.load([("ravdess", folders["ravdess"])], "valid")
    heard = score_voices(recogniser, voices, window_scheme(bundle, None))[:2]
    got = score_pairs(recogniser, faces, heard, [(0, 1), (1, 0), (1, 1)])
    for row, (face, voice) in zip(got, [(0, 1), (1, 0), (1, 1)], strict=True):
        features = heard[voice].features
        joined = [head.run({"face": faces.features[face][None], "voice": f[None]})["posterior"][0] for f in features]
        np.testing.assert_allclose(row, np.mean(joined, 0), atol=1e-5)


def test_faces_alone(bundle: Bundle, folders: dict[str, Path]) -> None:
    results = evaluate(bundle, faces=[("ferplus", folders["ferplus"])])
    assert list(results) == ["face"]
    seen = ferplus.read(folders["ferplus"], "valid")
    posterior = calibrate(Recogniser(bundle).faces(seen.images).posterior, bundle.manifest.temperature.face)
    expected = np.zeros((7, 7), np.int64)
    for row, label in zip(posterior, seen.majority, strict=True):
        expected[label, row.argmax()] += 1
    metrics = results["face"]
    np.testing.assert_array_equal(metrics.confusion, expected)
    assert metrics.n == 14
    assert metrics.confusion.sum(1).tolist() == [2] * 7
    assert metrics.accuracy == pytest.approx(expected.trace() / 14)
    confidence = posterior.max(1)
    assert 0 <= metrics.ece <= max(confidence.max(), 1 - confidence.min())


def test_voices_alone_in_all_and_by_corpus(bundle: Bundle, folders: dict[str, Path]) -> None:
    corpora = [(name, folders[name]) for name in ("ravdess", "emodb")]
    results = evaluate(bundle, voices=corpora, split="valid")
    assert list(results) == ["voice", "ravdess", "emodb"]
    assert {name: metrics.n for name, metrics in results.items()} == {"voice": 14, "ravdess": 8, "emodb": 6}
    np.testing.assert_array_equal(results["voice"].confusion, results["ravdess"].confusion + results["emodb"].confusion)
    # neutral and calm of RAVDESS and neutral of EmoDB
    assert results["voice"].confusion.sum(1).tolist() == [3, 2, 1, 2, 2, 2, 2]
    test = evaluate(bundle, voices=corpora[1:], split="test")
    assert {name: metrics.n for name, metrics in test.items()} == {"voice": 6, "emodb": 6}


def test_both_are_class_matched_pairs_and_each_alone_on_the_same(bundle: Bundle, folders: dict[str, Path]) -> None:
    faces, voices = [("ferplus", folders["ferplus"])], [("emodb", folders["emodb"])]
    results = evaluate(bundle, faces=faces, voices=voices, seed=1)
    assert list(results) == ["both", "face", "voice"]
    for metrics in results.values():
        # EmoDB has no surprise: its two faces are left out
        assert metrics.n == 12
        assert metrics.confusion.sum(1).tolist() == [2, 2, 0, 2, 2, 2, 2]
        assert metrics.accuracy == pytest.approx(metrics.uar)
    again = evaluate(bundle, faces=faces, voices=voices, seed=1)
    assert all(np.array_equal(results[k].confusion, again[k].confusion) for k in results)
    assert results["both"].ece == again["both"].ece


def test_each_modality_is_calibrated_by_its_own_temperature(bundle: Bundle, folders: dict[str, Path]) -> None:
    heat = PerModality(face=0.5, voice=2.0, both=4.0)
    hot = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, temperature=heat))
    faces, voices = [("ferplus", folders["ferplus"])], [("emodb", folders["emodb"])]
    recogniser, seen = Recogniser(hot), ferplus.read(folders["ferplus"], "valid")
    encoded = recogniser.faces(seen.images)
    heard = score_voices(recogniser, speech.load(voices, "valid"), window_scheme(hot, None))
    pairs = match(seen.majority, heard)
    of_faces, of_voices = [face for face, _ in pairs], [voice for _, voice in pairs]
    labels, spoken_labels = seen.majority[of_faces], np.array([s.label for s in heard])
    voice = np.stack([s.posterior for s in heard])
    joined = score_pairs(recogniser, encoded, heard, pairs)

    paired = evaluate(hot, faces=faces, voices=voices)
    assert paired["both"].ece == pytest.approx(measure(calibrate(joined, 4.0), labels).ece, abs=1e-5)
    assert paired["face"].ece == pytest.approx(
        measure(calibrate(encoded.posterior[of_faces], 0.5), labels).ece, abs=1e-5
    )
    assert paired["voice"].ece == pytest.approx(measure(calibrate(voice[of_voices], 2.0), labels).ece, abs=1e-5)
    alone = evaluate(hot, faces=faces)["face"], evaluate(hot, voices=voices)["voice"]
    assert alone[0].ece == pytest.approx(measure(calibrate(encoded.posterior, 0.5), seen.majority).ece, abs=1e-5)
    assert alone[1].ece == pytest.approx(measure(calibrate(voice, 2.0), spoken_labels).ece, abs=1e-5)


def test_what_cannot_be_measured_is_one_line(bundle: Bundle, folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="expected --faces ferplus:DIR, --voices CORPUS:DIR or both, got neither"):
        evaluate(bundle)
    with pytest.raises(CorpusError, match="expected one face corpus, ferplus:DIR, got affectnet"):
        evaluate(bundle, faces=[("affectnet", tmp_path)])
    with pytest.raises(CorpusError, match="expected a voice corpus of ravdess, emodb, nemo, cremad, got 'iemocap'"):
        evaluate(bundle, voices=[("iemocap", tmp_path)])
    with pytest.raises(CorpusError, match=r"ravdess at .* holds no speaker of split 'test'; try --split all"):
        evaluate(bundle, voices=[("ravdess", folders["ravdess"])], split="test")
    with pytest.raises(CorpusError, match="holds no picture of split 'test'"):
        evaluate(bundle, faces=[("ferplus", folders["ferplus"])], split="test")
    surprised = made.ferplus(tmp_path, [("PublicTest", made.votes_for(2))])
    with pytest.raises(CorpusError, match="expected faces and utterances with a label in common, got none"):
        evaluate(bundle, faces=[("ferplus", surprised)], voices=[("emodb", folders["emodb"])])
