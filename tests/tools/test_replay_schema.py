"""Every message of a replay fits the committed schema, as somebody in another language would check it."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from stream.feed.messages import SCHEMA_PATH
from tests.media_files import Audio, Video, truncate, write_media
from tools.cli import run

SCHEMA = json.loads(SCHEMA_PATH.read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def wrong(line: str) -> Iterator[str]:
    """What is wrong with a line: against the schema, and what the schema says in words, that texts are times."""
    message = json.loads(line)
    yield from (f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(message))
    for name in {"stamp", "origin"} & message.keys():
        if not _is_rfc3339_utc(message[name]):
            yield f"$.{name}: {message[name]!r} is no time in UTC with milliseconds"


def _is_rfc3339_utc(text: Any) -> bool:
    try:
        return bool(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")) and len(text) == len("2026-01-31T12:00:00.000Z")
    except (TypeError, ValueError):
        return False


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of `--out`: a film that is cut off, sound without a picture, a picture without sound."""
    folder = tmp_path_factory.mktemp("replayed")
    film = write_media(folder / "whole.mkv", video=Video(n_frames=100), audio=Audio(duration_s=4.0))
    files = [
        truncate(film, 0.5),
        write_media(folder / "tone.wav", audio=Audio(duration_s=1.5)),
        write_media(folder / "silent.mkv", video=Video(n_frames=25)),
    ]
    out = folder / "out.jsonl"
    assert run(["replay", *map(str, files), "--speed", "max", "--no-feed", "--quiet", "--out", str(out)]) == 0
    return out.read_text().splitlines()


def test_every_message_of_a_replay_fits_the_schema_and_all_kinds_occur(replayed: list[str]) -> None:
    assert [(line, error) for line in replayed for error in wrong(line)] == []
    kinds = Counter(json.loads(line)["type"] for line in replayed)
    assert set(kinds) == {"session", "estimate", "status", "event"}
    assert kinds["session"] == 3
    assert kinds["estimate"] == 8 + 6 + 4  # four a second
    events = [json.loads(line)["kind"] for line in replayed if '"type":"event"' in line]
    assert events == ["truncated", "end", "end", "end"]


def test_a_real_clip_at_real_time_fits_the_schema(shared_clips: Path, tmp_path: Path) -> None:
    clip, out = sorted(shared_clips.glob("*.mpg"))[0], tmp_path / "out.jsonl"
    assert run(["replay", str(clip), "--no-feed", "--quiet", "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert [(line, error) for line in lines for error in wrong(line)] == []
    estimates = [json.loads(line) for line in lines if '"type":"estimate"' in line]
    assert len(estimates) == 12
    assert all(len(estimate["box"]) == 4 and estimate["age_ms"] > 0 for estimate in estimates)


@pytest.mark.parametrize(
    ("kind", "planted", "where"),
    [
        ("session", {"alignment": "sideways"}, "$"),
        ("estimate", {"confidence": 1.5}, "$"),
        ("estimate", {"posterior": {"joy": -0.1}}, "$"),
        ("estimate", {"reason": "bored"}, "$"),
        ("status", {"persons": -1}, "$"),
        ("status", {"v": 2}, "$"),
        ("event", {"totals": {"frames": "many"}}, "$"),
        ("event", {"stamp": "2026-01-31 12:00:00"}, "$.stamp"),
        ("session", {"origin": "2026-01-31T12:00:00Z"}, "$.origin"),
    ],
)
def test_a_line_with_something_wrong_planted_in_it_is_found(
    replayed: list[str], kind: str, planted: dict[str, Any], where: str
) -> None:
    good = next(line for line in replayed if f'"type":"{kind}"' in line)
    assert [error.split(": ")[0] for error in wrong(json.dumps(json.loads(good) | planted))] == [where]


@pytest.mark.parametrize("kind", ["session", "estimate", "status", "event"])
def test_a_line_that_lacks_a_field_is_found(replayed: list[str], kind: str) -> None:
    good = json.loads(next(line for line in replayed if f'"type":"{kind}"' in line))
    required = next(d["required"] for d in SCHEMA["$defs"].values() if d["properties"].get("type") == {"enum": [kind]})
    assert {"stream", "seq", "t", "stamp"} < set(required)
    for name in required:
        assert list(wrong(json.dumps({field: value for field, value in good.items() if field != name})))
