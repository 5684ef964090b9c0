"""The protocol's page is held to the code: fields and their types, examples, reasons, limits, links, the control."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import zmq

from stream.feed import control, control_messages, door, hub, late_joiners, messages, security, sinks
from stream.feed.sinks import ZmqSink
from tests.feeds import ANY
from tools.feeds import control as control_command
from tools.feeds import hub as hub_command

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
SCHEMA = messages.schema()
VALIDATOR = jsonschema.Draft202012Validator(json.loads(messages.SCHEMA_PATH.read_text()))
KINDS = ("session", "estimate", "status", "event")


def section(heading: str) -> str:
    """What stands under a heading, up to the next one."""
    found = re.findall(rf"^{re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, heading
    return str(found[0])


def table(text: str, *head: str) -> dict[str, tuple[str, ...]]:
    """The rows of the tables with this head in a text, by their first cell without its quotes."""
    rows: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        inside = bool(cells) and (inside or cells == list(head))
        if inside and cells != list(head) and set(cells) != {"---"}:
            rows.append(cells)
    names = [row[0].strip("`") for row in rows]
    assert rows
    assert len(names) == len(set(names))
    return {name: tuple(row[1:]) for name, row in zip(names, rows, strict=True)}


def described(field: dict[str, Any]) -> str:
    """A type of the schema in the page's words."""
    match field:
        case {"anyOf": [one, {"type": "null"}]}:
            return f"{described(one)} or null"
        case {"enum": [int(only)]}:
            return str(only)
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"$ref": reference}:
            return {"#/$defs/WindowNote": "window", "#/$defs/Session": "session", "#/$defs/Status": "status"}[reference]
        case {"type": "array", "prefixItems": items}:
            return f"array of {len(items)} {plural(items[0])}"
        case {"type": "array", "items": item}:
            return f"array of {plural(item)}"
        case {"type": "object", "additionalProperties": value}:
            return f"object of {plural(value)}"
        case {"type": "string", "maxLength": most}:
            least = field.get("minLength")
            return f"string of {least} to {most} characters" if least else f"string of {most} characters at most"
        case {"type": kind, "minimum": least, "maximum": most}:
            return f"{kind} {least:g} to {most:g}"
        case {"type": kind, "minimum": least}:
            return f"{kind}, {least:g} or more"
        case {"type": kind, "exclusiveMinimum": least}:
            return f"{kind} above {least:g}"
        case {"type": kind}:
            return str(kind)
    raise AssertionError(f"no words for {field}")


def plural(field: dict[str, Any]) -> str:
    noun, *rest = re.split(r"(?=[ ,])", described(field), maxsplit=1)
    return f"{noun}s{''.join(rest)}"


def fields_of(name: str) -> dict[str, str]:
    return {field: described(what) for field, what in SCHEMA["$defs"][name]["properties"].items()}


COMMON = {name: cells[0] for name, cells in table(section("### Every message"), "field", "type", "meaning").items()}


@pytest.mark.parametrize("kind", KINDS)
def test_each_field_of_a_message_is_named_with_its_type_and_no_other(kind: str) -> None:
    told = {name: cells[0] for name, cells in table(section(f"### `{kind}`"), "field", "type", "meaning").items()}
    assert COMMON["type"] == "string"
    assert {**COMMON, **told, "type": f"`{kind}`"} == fields_of(kind.capitalize())
    assert not COMMON.keys() & told.keys()


def test_each_field_of_a_window_is_named_with_its_type_and_no_other() -> None:
    told = {name: cells[0] for name, cells in table(section("### A window"), "field", "type", "meaning").items()}
    assert told == fields_of("WindowNote")


def test_fields_that_earlier_publishers_lack_are_marked() -> None:
    marked = {
        (kind, name)
        for kind in KINDS
        for name, cells in table(section(f"### `{kind}`"), "field", "type", "meaning").items()
        if "May be absent" in cells[1]
    }
    lines = (ROOT / "tests" / "stream" / "golden" / "v1-0.1.0.jsonl").read_text().splitlines()
    first = {message["type"]: set(message) for message in map(json.loads, lines)}
    lacking = {(kind, name) for kind in KINDS for name in fields_of(kind.capitalize()).keys() - first[kind]}
    assert marked == lacking


def examples(heading: str) -> list[str]:
    return re.findall(r"```json\n(.*?)```", section(heading), re.DOTALL)


@pytest.mark.parametrize("kind", KINDS)
def test_each_example_decodes_as_what_it_stands_under(kind: str) -> None:
    found = examples(f"### `{kind}`")
    assert found
    for example in found:
        written = json.loads(example)
        VALIDATOR.validate(written)
        message = messages.decode(example.encode())
        assert type(message).__name__.lower() == kind
        assert json.loads(messages.encode(message)) == written


def test_all_reasons_and_voices_are_explained() -> None:
    reasons = table(section("### `estimate`"), "reason", "why there is no label")
    assert set(reasons) == set(get_args(messages.Reason))
    voices = SCHEMA["$defs"]["WindowNote"]["properties"]["voice"]["enum"]
    assert all(f"`{voice}`" in section("### A window") for voice in voices)


# --- numbers ---

LIMITS = {
    "subscribers that join within this time share one repeat": sinks.COALESCE_S * 1000,
    "least time between two repeats": sinks.REPEAT_S * 1000,
    "persons kept of each stream, those last heard of": late_joiners.MAX_PERSONS,
    "streams kept, those last heard of": late_joiners.MAX_STREAMS,
    "media time without an estimate after which a person is no longer told of": late_joiners.GONE_S,
    "messages that the publisher holds for each subscriber": sinks.SUBSCRIBER_QUEUE,
    "messages that a SUB socket holds unless its RCVHWM says otherwise": 1000,
    "time without taking anything, with a full connection, after which a subscriber is cut off": sinks.TCP_KEEP_ALIVE[
        zmq.TCP_MAXRT
    ]
    / 1000,
    "a second publisher's stream of the same name is left out until the first has ended or was silent for": hub.TAKEN_S,
    "a stream that is silent is told to late joiners for": hub.FORGET_S,
    "connections at once, or half of the files that the process may open": door.MAX_CONNECTIONS,
    "new connections let in until the publisher has dealt with their subscriptions": door.AT_A_TIME,
    "or, where it has nothing to do, each": door.TURN_S,
    "subscriptions of one connection in its life, with 16 bytes for each": door.MAX_SUBSCRIBED,
    "one topic or other message of a subscriber": 1024,
    "sent by one connection at once": door.AT_ONCE,
    "sent by one connection each second": door.A_SECOND,
    "sent by all connections together, beyond their handshakes; then who sent most is cut off": door.TOGETHER,
    "handshake": door.HANDSHAKE_MS / 1000,
    "an address that was cut off may connect again after": door.OUT_S,
}


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    told = {name: cells[0] for name, cells in table(PAGE.split("## The control")[0], "what", "value").items()}
    assert {name: float(value.split()[0]) for name, value in told.items()} == LIMITS


def test_the_socket_has_the_limits_that_no_constant_names() -> None:
    sink = ZmqSink(ANY)
    sink.open()
    try:
        socket = sink.readable()
        assert socket is not None
        assert socket.get(zmq.MAXMSGSIZE) == LIMITS["one topic or other message of a subscriber"]
        assert socket.get(zmq.HEARTBEAT_IVL) == 0
        with zmq.Context() as context, context.socket(zmq.SUB) as plain:
            assert plain.rcvhwm == LIMITS["messages that a SUB socket holds unless its RCVHWM says otherwise"]
    finally:
        sink.close()


def test_addresses_and_links_are_right() -> None:
    transport = section("## Transport")
    assert f"a publisher's own is `{security.DEFAULT_ADDRESS}`, a hub's `{hub_command.DEFAULT_ADDRESS}`" in transport
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


# --- the control ---


def test_each_request_is_named_with_its_fields_and_no_other() -> None:
    told = table(section("## The control"), "command", "more fields", "does")
    described_commands = {
        definition["properties"]["command"]["enum"][0]: {
            name: described(field)
            for name, field in definition["properties"].items()
            if name not in ("command", "v", "id")
        }
        for definition in control_messages.schema()["$defs"].values()
        if "command" in definition.get("properties", {})
    }
    assert {name: dict(re.findall(r"`(\w+)`: ([^;]+)", cells[0])) for name, cells in told.items()} == described_commands
    assert control_command.DEFAULT_ADDRESS == control.DEFAULT_ADDRESS
    assert f"`{control.DEFAULT_ADDRESS}`" in section("## The control")


def test_each_field_of_a_reply_is_named_with_its_type_and_no_other() -> None:
    told = {name: cells[0] for name, cells in table(section("## The control"), "field", "type", "meaning").items()}
    reply = control_messages.schema()["$defs"]["Reply"]["properties"]
    assert told == {name: described(field) for name, field in reply.items()}


def test_the_examples_of_the_control_decode() -> None:
    request, reply = examples("## The control")
    assert control_messages.decode_request(request.encode()).id == control_messages.decode_reply(reply.encode()).id


def test_the_limits_of_the_control_are_those_of_the_code() -> None:
    told = {name: cells[0] for name, cells in table(section("## The control"), "what", "value").items()}
    assert {name: float(value.split()[0]) for name, value in told.items()} == {
        "one frame": control.MAX_BYTES,
        "connections at once": control.MAX_CONNECTIONS,
        "requests of one connection done at once; those beyond are refused": control.BURST,
        "requests of one connection done each second, in the long run": control.RATE_HZ,
        "sent by one connection at once": control.AT_ONCE,
        "sent by one connection each second": control.A_SECOND,
        "replies that wait for a client that does not read them; those beyond are lost": control.QUEUE_SIZE,
    }
