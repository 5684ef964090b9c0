"""The wire format: two codecs that say the same, a committed schema, and lines that must stay readable."""

import json
import math
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.feed.messages import (
    CODECS,
    SCHEMA_PATH,
    Estimate,
    Event,
    Message,
    Reason,
    Session,
    Status,
    WindowNote,
    decode,
    encode,
    schema,
    topic_of,
)

VALIDATOR = jsonschema.Draft202012Validator(schema())

# Frozen: a subscriber written against version 1 reads these, whatever happens to the types.
GOLDEN = (
    '{"type":"session","v":1,"stream":"clip.mp4","seq":0,"t":0.0,"stamp":"2026-01-31T12:00:00.000Z","session":"5f",'
    '"origin":"2026-01-31T12:00:00.000Z","labels":["neutral","happiness"],"recogniser":"temporal",'
    '"bundle":"0123456789abcdef","engine":"onnx","hop_s":0.25,"n_segments":10,"alignment":"centered","seed":0,'
    '"source":"clip.mp4: h264 640 x 360","notice":"for research"}',
    '{"type":"estimate","v":1,"stream":"clip.mp4","seq":7,"t":2.0,"stamp":"2026-01-31T12:00:02.700Z",'
    '"span":[0.0,2.0],"age_ms":700.5,"person":1,"box":[10,20,30,40],"posterior":{"neutral":0.25,"happiness":0.75},'
    '"label":"happiness","confidence":0.75,"reason":null,"modalities":{"face":0.5,"voice":0.5},'
    '"windows":[{"frame":1.9,"audio":[1.25,2.53],"offset":-0.01,"face":true,"voice":"present"}],'
    '"bundle":"0123456789abcdef","baseline":null}',
    '{"type":"estimate","v":1,"stream":"clip.mp4","seq":8,"t":2.25,"stamp":"2026-01-31T12:00:02.950Z",'
    '"span":[0.0,2.25],"age_ms":null,"person":0,"box":null,"posterior":{"neutral":0.5,"happiness":0.5},'
    '"label":null,"confidence":0.5,"reason":"no_face","modalities":{"face":0.0,"voice":0.0},"windows":[],'
    '"bundle":"0123456789abcdef","baseline":null}',
    '{"type":"status","v":1,"stream":"clip.mp4","seq":1,"t":2.25,"stamp":"2026-01-31T12:00:03.000Z",'
    '"frame_rate_hz":25.0,"analysed_rate_hz":12.5,"hop_rate_hz":4.0,"persons":1,"drops":{"frames":0},"overruns":0,'
    '"audio_gap_s":0.0,"engine_ms":[9.5,20.0],"age_ms":null,"drift_ppm":null,"drift_residual_ms":null,'
    '"engine":"onnx","engine_why":"asked for","picture":[640,360]}',
    '{"type":"event","v":1,"stream":"clip.mp4","seq":1,"t":9.9,"stamp":"2026-01-31T12:00:09.900Z","kind":"end",'
    '"text":"the end","person":null,"totals":{"frames":248.0}}',
)

RELEASED = [
    pytest.param(line, id=f"{file.stem}-{number}")
    for file in sorted((Path(__file__).parent / "golden").glob("v1-*.jsonl"))
    for number, line in enumerate(file.read_text().splitlines(), 1)
]

number = st.floats(allow_nan=False, allow_infinity=False)
fraction = st.floats(0, 1)
count = st.integers(0, 2**53)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
head: dict[str, st.SearchStrategy[Any]] = {
    "stream": st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True),
    "seq": count,
    "t": number,
    "stamp": text,
}
notes = st.builds(WindowNote, audio=st.tuples(number, number), frame=number, offset=number)
sessions = st.builds(
    Session, **head, session=text, labels=st.lists(text).map(tuple), hop_s=number, n_segments=count, seed=count
)
estimates = st.builds(
    Estimate,
    **head,
    span=st.tuples(number, number),
    age_ms=st.none() | number,
    person=count,
    box=st.none() | st.tuples(*[st.integers(-(2**31), 2**31)] * 4),
    posterior=st.dictionaries(text, fraction, max_size=7),
    label=st.none() | text,
    confidence=fraction,
    modalities=st.dictionaries(text, fraction, max_size=2),
    windows=st.lists(notes, max_size=3).map(tuple),
    baseline=st.none() | text,
)
pairs = st.none() | st.tuples(number, number)
statuses = st.builds(
    Status,
    **head,
    frame_rate_hz=number,
    analysed_rate_hz=number,
    hop_rate_hz=number,
    persons=count,
    drops=st.dictionaries(text, count, max_size=3),
    overruns=count,
    audio_gap_s=number,
    engine_ms=pairs,
    age_ms=pairs,
    drift_ppm=st.none() | number,
)
totals = st.none() | st.dictionaries(text, number, max_size=3)
events = st.builds(Event, **head, kind=text, text=text, person=st.none() | count, totals=totals)
messages = sessions | estimates | statuses | events


@given(messages)
def test_both_codecs_carry_the_same_message(message: Message) -> None:
    as_json, as_msgpack = encode(message, "json"), encode(message, "msgpack")
    assert decode(as_json) == message
    assert decode(as_msgpack) == message
    assert json.loads(as_json) == msgspec.msgpack.decode(as_msgpack)


@given(messages)
def test_every_message_fits_the_schema(message: Message) -> None:
    VALIDATOR.validate(json.loads(encode(message)))


def test_the_committed_schema_is_the_one_of_the_types() -> None:
    assert json.loads(SCHEMA_PATH.read_text()) == schema()
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("line", GOLDEN)
def test_golden_lines_decode_and_are_written_the_same_again(line: str) -> None:
    message = decode(line.encode())
    assert encode(message).decode() == line
    assert decode(encode(message, "msgpack")) == message
    VALIDATOR.validate(json.loads(line))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("line", RELEASED)
def test_what_releases_published_still_decodes_and_says_the_same(line: str, codec: str) -> None:
    published = json.loads(line)
    VALIDATOR.validate(published)
    read = json.loads if codec == "json" else msgspec.msgpack.decode
    message = decode(line.encode() if codec == "json" else msgspec.msgpack.encode(published))
    assert _known(read(encode(message, codec)), published) == published
    assert decode(encode(message, codec)) == message


def test_what_the_first_release_published_has_every_kind_and_every_reason() -> None:
    first = [json.loads(str(line.values[0])) for line in RELEASED if str(line.id).startswith("v1-0.1.0-")]
    assert {message["type"] for message in first} == {"session", "estimate", "status", "event"}
    estimates = [message for message in first if message["type"] == "estimate"]
    assert {estimate["reason"] for estimate in estimates} == {None, *get_args(Reason)}
    assert {estimate["person"] for estimate in estimates} == {0, 1, 2}
    assert {type(estimate["box"]) for estimate in estimates} == {type(None), list}
    voices = {note["voice"] for estimate in estimates for note in estimate["windows"]}
    assert voices == {"present", "silence", "gap", "no_track", "shared"}


def _known(sent: Any, published: Any) -> Any:
    """What was sent, without the fields that were added since something was published."""
    match sent, published:
        case dict(), dict():
            return {name: _known(part, published[name]) for name, part in sent.items() if name in published}
        case list(), list():
            return [_known(part, before) for part, before in zip(sent, published, strict=True)]
        case _:
            return sent


def test_a_status_from_before_its_engine_was_told_still_decodes() -> None:
    before = GOLDEN[3].replace(
        ',"drift_residual_ms":null,"engine":"onnx","engine_why":"asked for","picture":[640,360]', ""
    )
    assert before != GOLDEN[3]
    message = decode(before.encode())
    assert isinstance(message, Status)
    assert (message.engine, message.engine_why, message.picture, message.persons) == ("", "", None, 1)
    VALIDATOR.validate(json.loads(before))


def test_an_estimate_from_before_baselines_still_decodes() -> None:
    before = GOLDEN[1].replace(',"baseline":null', "")
    assert before != GOLDEN[1]
    assert decode(before.encode()) == decode(GOLDEN[1].encode())
    VALIDATOR.validate(json.loads(before))


def test_topics() -> None:
    assert [topic_of(decode(line.encode())) for line in GOLDEN] == [
        "session/clip.mp4",
        "estimate/clip.mp4/1",
        "estimate/clip.mp4/0",
        "status/clip.mp4",
        "event/clip.mp4",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("v", 2),
        ("type", "rumour"),
        ("confidence", 1.5),
        ("seq", -1),
        ("reason", "bored"),
        ("box", [1, 2]),
    ],
)
@pytest.mark.parametrize("codec", CODECS)
def test_what_is_no_message_is_refused_by_types_and_schema(codec: str, key: str, value: object) -> None:
    altered = json.loads(GOLDEN[1]) | {key: value}
    payload = json.dumps(altered).encode() if codec == "json" else msgspec.msgpack.encode(altered)
    with pytest.raises(msgspec.DecodeError):
        decode(payload)
    assert not VALIDATOR.is_valid(altered)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("line", GOLDEN)
def test_fields_that_a_later_version_1_adds_are_left_out(codec: str, line: str) -> None:
    later = json.loads(line) | {"mood": {"valence": [0.5]}}
    for note in later.get("windows", []):
        note["pose"] = True
    payload = json.dumps(later).encode() if codec == "json" else msgspec.msgpack.encode(later)
    assert decode(payload) == decode(line.encode())
    VALIDATOR.validate(later)


@given(messages)
def test_what_is_sent_has_the_fields_of_its_type_and_no_others(message: Message) -> None:
    sent = json.loads(encode(message))
    described = schema()["$defs"]
    assert set(sent) == set(described[type(message).__name__]["properties"])
    for note in sent.get("windows", []):
        assert set(note) == set(described["WindowNote"]["properties"])


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"t": ...}, "t"),
        ({"age_ms": ...}, "age_ms"),
        ({"span": (0.0, ...)}, r"span\[1\]"),
        ({"posterior": {"joy": ...}}, r"posterior\.joy"),
        ({"modalities": {"face": 1.0, "voice": ...}}, r"modalities\.voice"),
    ],
)
def test_numbers_that_are_not_finite_are_neither_sent_nor_received(
    wrong: float, changes: dict[str, Any], field: str
) -> None:
    message = msgspec.structs.replace(decode(GOLDEN[1].encode()), **_put(changes, wrong))
    for codec in CODECS:
        with pytest.raises(ValueError, match=f"in the message estimate/clip.mp4/1, got {field} = {wrong}"):
            encode(message, codec)
    with pytest.raises(msgspec.DecodeError):
        decode(msgspec.msgpack.encode(message))
    with pytest.raises(msgspec.DecodeError):
        decode(json.dumps(msgspec.to_builtins(message)).encode())


def _put(value: Any, number: float) -> Any:
    match value:
        case dict():
            return {name: _put(part, number) for name, part in value.items()}
        case tuple():
            return tuple(_put(part, number) for part in value)
        case _:
            return number if value is ... else value


NESTED = (
    pytest.param(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="nested JSON"),
    pytest.param(b"\x81\xa1x" + b"\x91" * 100_000 + b"\x01", id="nested MessagePack"),
)


@pytest.mark.parametrize("payload", [b"", b"{", b"hello", b"[]", b"\xff\xfe", b"{}", b"\x80", *NESTED])
def test_bytes_that_are_no_message_are_a_decode_error(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(payload)


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(ValueError, match="expected a codec of json, msgpack, got 'xml'"):
        encode(decode(GOLDEN[0].encode()), "xml")


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_name_that_is_no_utf_8_is_carried_with_question_marks(codec: str) -> None:
    told = msgspec.structs.replace(decode(GOLDEN[4].encode()), text="caf\udce9.mp4 ended")
    assert decode(encode(told, codec)) == msgspec.structs.replace(told, text="caf?.mp4 ended")
