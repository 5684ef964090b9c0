"""Metrics over a real port of loopback, read by the parser of prometheus_client."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.bridges.exposition import HELP, Metrics
from stream.bridges.metrics import MAX_CLIENTS, MetricsSink
from stream.feed.messages import Message
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from tests.feeds import WAIT_S, estimate, event, serving, session, status, until

text_string_to_metric_families = pytest.importorskip("prometheus_client.parser").text_string_to_metric_families
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Values:
    """Each sample's value by its name and its labels but the stream, which is `a`."""
    values: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("stream") == "a"
            values[sample.name.removeprefix("emocast_"), tuple(sorted(labels.items()))] = sample.value
    return values


def values_of(*messages: Message) -> Values:
    metrics = Metrics()
    for message in messages:
        metrics.take(message)
    return parsed(metrics.text())


@contextmanager
def asking(sink: MetricsSink) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", sink.port, timeout=WAIT_S)) as connection:
        yield connection


def get(sink: MetricsSink, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, str, str]:
    with asking(sink) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def test_a_scrape_says_what_the_feed_said() -> None:
    sink = MetricsSink(0)
    with serving(sink) as feed:
        feed.publish(session())
        for label in ("happiness", "happiness", "neutral"):
            feed.publish(estimate(label=label))
        feed.publish(estimate(label=None, reason="silence"))
        feed.publish(event())
        until(lambda: 'kind="face_found"' in get(sink)[2])
        code, kind, text = get(sink)
    assert (code, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    ours = "".join(f"{line}\n" for line in text.splitlines() if 'stream="here"' not in line)
    values = parsed(ours)
    assert values["estimates_total", (("label", "happiness"),)] == 2
    assert values["estimates_total", (("label", "neutral"),)] == 1
    assert values["abstentions_total", (("reason", "silence"),)] == 1
    assert values["events_total", (("kind", "face_found"),)] == 1


def test_a_status_in_base_units() -> None:
    told = status(
        drops={"frames": 3, "hops": 2},
        overruns=4,
        audio_gap_s=0.5,
        age_ms=(100.0, 250.0),
        drift_ppm=-20.5,
        drift_residual_ms=1.5,
        stamp="2026-01-31T12:00:00.250Z",
    )
    assert values_of(told) == {
        ("frame_rate_hz", ()): 25.0,
        ("analysed_rate_hz", ()): 12.5,
        ("hop_rate_hz", ()): 4.0,
        ("persons", ()): 1,
        ("drops_total", (("queue", "frames"),)): 3,
        ("drops_total", (("queue", "hops"),)): 2,
        ("overruns_total", ()): 4,
        ("audio_gap_seconds_total", ()): 0.5,
        ("engine_seconds", (("quantile", "0.5"),)): 0.0095,
        ("engine_seconds", (("quantile", "0.99"),)): 0.02,
        ("age_seconds", (("quantile", "0.5"),)): 0.1,
        ("age_seconds", (("quantile", "0.99"),)): 0.25,
        ("drift_ppm", ()): -20.5,
        ("drift_residual_seconds", ()): 0.0015,
        ("status_timestamp_seconds", ()): 1_769_860_800.25,
    }


def test_what_is_not_known_is_absent() -> None:
    values = values_of(status(engine_ms=None, stamp="2026-01-31T12:00:00.000Z"))
    assert {name for name, _ in values} & {
        "engine_seconds",
        "age_seconds",
        "drift_ppm",
        "drift_residual_seconds",
    } == set()


def test_a_session_names_its_parts_and_a_label_that_never_came_is_zero() -> None:
    about = {"session": "5f", "recogniser": "temporal", "bundle": "0123456789abcdef", "alignment": "centered"}
    values = values_of(session(), status(engine="tensorrt"))
    assert values["session_info", tuple(sorted({**about, "engine": "tensorrt"}.items()))] == 1
    assert values["estimates_total", (("label", "neutral"),)] == 0


def test_another_session_counts_anew() -> None:
    first, again = session(), session(session="other")
    happy = ("estimates_total", (("label", "happiness"),))
    assert values_of(first, estimate(), estimate(), first)[happy] == 2  # told again
    assert values_of(first, estimate(), estimate(), again)[happy] == 0


def test_streams_are_bounded_and_the_longest_silent_goes() -> None:
    metrics = Metrics()
    for i in range(70):
        metrics.take(event(stream=f"s{i}"))
    assert metrics.text().count("events_total{") == 64
    assert '"s5"' not in metrics.text()
    assert '"s6"' in metrics.text()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_in_a_label_is_read_back(text: str) -> None:
    assert values_of(event(kind=text))["events_total", (("kind", text),)] == 1


def test_every_family_has_its_help_and_its_type() -> None:
    metrics = Metrics()
    full = status(age_ms=(1.0, 2.0), drift_ppm=1.0, drift_residual_ms=1.0, stamp="2026-01-31T12:00:00.000Z")
    for message in (session(), estimate(), estimate(label=None, reason="stale"), full, event()):
        metrics.take(message)
    families = {family.name: family for family in text_string_to_metric_families(metrics.text())}
    told = {f"emocast_{name}".removesuffix("_total"): about for name, about in HELP.items()}
    assert {name: (family.type, family.documentation) for name, family in families.items()} == told


# the server


@pytest.fixture
def sink() -> Iterator[MetricsSink]:
    sink = MetricsSink(0)
    sink.open()
    yield sink
    sink.close()


def test_only_its_page_is_served_and_only_to_get(sink: MetricsSink) -> None:
    assert get(sink)[0] == 200
    assert get(sink, "/metrics?name=x")[0] == 200
    assert get(sink, "/")[0] == 404
    assert get(sink, "/metrics/../etc")[0] == 404
    assert get(sink, method="POST")[0] == 501


def test_a_page_whose_name_was_pointed_here_is_refused(sink: MetricsSink) -> None:
    assert get(sink, Host="evil.example:80")[0] == 403
    assert get(sink, Host=f"localhost:{sink.port}")[0] == 200


def test_garbage_and_silent_clients_cost_nobody_else_an_answer(sink: MetricsSink) -> None:
    with closing(socket.create_connection(("127.0.0.1", sink.port), WAIT_S)) as garbage:
        garbage.sendall(b"\0\xff\n" * 20_000 + b"\r\n\r\n")
        silent = [socket.create_connection(("127.0.0.1", sink.port), WAIT_S) for _ in range(MAX_CLIENTS - 2)]
        assert get(sink)[0] == 200
        for connection in silent:
            connection.close()


def test_a_scrape_is_answered_while_silent_clients_hold_all_places(sink: MetricsSink) -> None:
    silent = [socket.create_connection(("127.0.0.1", sink.port), WAIT_S) for _ in range(MAX_CLIENTS)]
    assert get(sink)[0] == 200
    for connection in silent:
        connection.close()


def test_a_client_that_says_nothing_does_not_hold_up_the_end(sink: MetricsSink) -> None:
    with closing(socket.create_connection(("127.0.0.1", sink.port), WAIT_S)) as silent:
        assert get(sink)[0] == 200
        sink.close()
        with contextlib.suppress(ConnectionError):
            assert silent.recv(1) == b""


def test_a_port_in_use_is_one_line(sink: MetricsSink) -> None:
    with (
        pytest.raises(FeedError, match=rf"^cannot serve metrics on port {sink.port}: address already in use; take ano"),
        Feed([MetricsSink(sink.port)]),
    ):
        pass


def test_a_port_is_let_go(sink: MetricsSink) -> None:
    sink.close()
    again = MetricsSink(sink.port)
    again.open()
    again.close()
    again.close()  # twice does no harm


def test_the_network_is_refused() -> None:
    with pytest.raises(FeedError, match=r"expected 127.0.0.1 or ::1 for metrics, which have no keys, got '0.0.0.0'"):
        MetricsSink(9563, host="0.0.0.0")
    with pytest.raises(FeedError, match="expected a port of 0 to 65535 for metrics, got 70000"):
        MetricsSink(70_000)
