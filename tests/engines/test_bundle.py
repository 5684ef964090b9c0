"""Bundles: what is accepted, and one clear line for each thing that is wrong with one."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from engines.bundle import SHIPPED, BundleError, load, shipped
from tests.small_bundle import MANIFEST, write_bundle


def refused(folder: Path, text: str) -> None:
    with pytest.raises(BundleError, match=text) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def changed(folder: Path, part: str, **changes: Any) -> Path:
    return write_bundle(folder, **{part: {**MANIFEST[part], **changes}})


def test_a_bundle_says_what_is_in_it(tmp_path: Path) -> None:
    bundle = load(write_bundle(tmp_path))
    assert bundle.manifest.labels == ("red", "green", "blue")
    assert bundle.manifest.face.margin == 0.0
    assert bundle.manifest.fusion.both == 2.0
    assert bundle.manifest.scheme.alignments == ("centered",)
    assert (bundle.manifest.pose, bundle.manifest.flow) == (False, "none")
    assert bundle.stage("head") == tmp_path / "head.onnx"
    assert bundle.sha256 == hashlib.sha256((tmp_path / "bundle.json").read_bytes()).hexdigest()


def test_bundles_that_are_shipped_are_valid_and_small_and_have_a_card() -> None:
    assert "default" in shipped()
    for name in shipped():
        bundle = load(name)
        assert bundle.folder == SHIPPED / name
        assert bundle.manifest.name == name
        assert (bundle.folder / "README.md").stat().st_size > 1000
        assert sum(path.stat().st_size for path in bundle.folder.iterdir()) <= 15_000_000
        assert {path.name for path in bundle.folder.iterdir()} == {
            "README.md",
            "bundle.json",
            *(stage.file for stage in bundle.manifest.stages.values()),
        }


def test_the_default_bundle_has_the_seven_labels_in_their_order() -> None:
    labels = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
    assert load("default").manifest.labels == labels


def test_a_folder_named_as_a_shipped_bundle_is_taken_by_its_path(tmp_path: Path) -> None:
    assert load(write_bundle(tmp_path / "default")).manifest.name == "small"


@pytest.mark.parametrize("name", ["nobody", "", "engines", "/no/such/folder"])
def test_no_bundle_names_those_there_are(name: str) -> None:
    refused(Path(name), r"expected a bundle folder or one of default.*, got .* which holds no bundle.json")


def test_a_file_in_place_of_the_folder_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    refused(tmp_path / "a.onnx", "which holds no bundle.json")


def test_an_unknown_key_is_named_with_its_place(tmp_path: Path) -> None:
    refused(write_bundle(tmp_path / "a", colour="red"), "bundle.json is not a valid bundle: .*unknown field `colour`")
    refused(changed(tmp_path / "b", "face", sise_px=48), r"unknown field `sise_px` - at `\$.face`")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    refused(write_bundle(tmp_path, labels=None), "missing required field `labels`")


@pytest.mark.parametrize(
    ("part", "change", "text"),
    [
        ("face", {"size_px": 8}, "Expected `int` >= 16 .*size_px"),
        ("face", {"align": "nose"}, "Invalid enum value 'nose' .*align"),
        ("face", {"colour": "bgr"}, "Invalid enum value 'bgr'"),
        ("face", {"eye_height": 1.5}, "Expected `float` <= 1.0 .*eye_height"),
        ("audio", {"rate_hz": 44100}, "Invalid enum value 44100"),
        ("audio", {"min_coverage": "half"}, "Expected `float`, got `str` .*min_coverage"),
        ("scheme", {"segment_s": 0}, "Expected `float` > 0.0 .*segment_s"),
        ("scheme", {"alignments": []}, "Expected `array` of length >= 1 .*alignments"),
        ("scheme", {"alignments": ["late"]}, "Invalid enum value 'late'"),
        ("fusion", {"face": 0.0}, "Expected `float` > 0.0 .*fusion.face"),
        ("temperature", {"voice": -1.0}, "Expected `float` > 0.0 .*temperature.voice"),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path: Path, part: str, change: dict[str, Any], text: str) -> None:
    refused(changed(tmp_path, part, **change), text)


@pytest.mark.parametrize(("key", "value"), [("labels", ["one"]), ("name", "a/b"), ("format", 2), ("min_confidence", 2)])
def test_a_top_value_that_cannot_be_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    refused(write_bundle(tmp_path, **{key: value}), rf"bundle.json is not a valid bundle: .*\$.{key}")


def test_labels_that_repeat_are_refused(tmp_path: Path) -> None:
    refused(write_bundle(tmp_path, labels=["a", "b", "a"]), "expected labels that differ, got a, b, a")


def test_lengths_that_disagree_are_refused(tmp_path: Path) -> None:
    refused(changed(tmp_path, "audio", n_samples=1601), r"scheme.audio_s is 1600 samples, audio.n_samples 1601")


def test_lengths_that_are_no_whole_number_of_samples_are_refused(tmp_path: Path) -> None:
    refused(changed(tmp_path, "scheme", audio_s=0.10002), "scheme.audio_s is 1600.32 samples")


def test_json_that_is_broken_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    whole = (folder / "bundle.json").read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"[]", b"\xff" + whole):
        (folder / "bundle.json").write_bytes(broken)
        refused(folder, f"{re.escape(str(folder))}/bundle.json is not a valid bundle: ")


def test_a_stage_that_is_not_named_is_told(tmp_path: Path) -> None:
    stages = json.loads((write_bundle(tmp_path) / "bundle.json").read_text())["stages"]
    del stages["head"]
    refused(
        write_bundle(tmp_path, stages=stages),
        "expected the stages frame_encoder, audio_encoder, head, got frame_encoder, audio_encoder",
    )


def test_a_stage_of_another_name_is_refused(tmp_path: Path) -> None:
    stages = json.loads((write_bundle(tmp_path) / "bundle.json").read_text())["stages"]
    refused(
        write_bundle(tmp_path, stages={**stages, "tail": stages["head"]}),
        "expected the stages .*, head, got .*, head, tail",
    )


@pytest.mark.parametrize("file", ["../head.onnx", "/tmp/head.onnx", "head.pt", "a/head.onnx"])
def test_a_stage_lies_in_the_folder(tmp_path: Path, file: str) -> None:
    stages = json.loads((write_bundle(tmp_path) / "bundle.json").read_text())["stages"]
    stages["head"]["file"] = file
    refused(write_bundle(tmp_path, stages=stages), "Expected `str` matching regex .*file")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (write_bundle(tmp_path) / "head.onnx").unlink()
    refused(tmp_path, "stage head names head.onnx, which is not there; copy the whole folder")


def test_a_file_that_was_changed_is_named(tmp_path: Path) -> None:
    path = write_bundle(tmp_path) / "audio_encoder.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    refused(tmp_path, r"audio_encoder.onnx has SHA-256 \w{16}..., bundle.json says \w{16}...; the file was changed")
