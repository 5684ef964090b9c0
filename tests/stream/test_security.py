"""Addresses: well formed, and loopback unless asked for."""

import pytest

from stream.feed.security import FeedError, check_address
from stream.feed.sinks import ZmqSink


@pytest.mark.parametrize("address", ["tcp://*:5563", "tcp://0.0.0.0:5563", "tcp://192.168.1.5:1", "tcp://[::]:5563"])
def test_any_address_but_loopback_must_be_asked_for(address: str) -> None:
    with pytest.raises(FeedError, match=r"is not a loopback address.*use keys .*pass --insecure"):
        ZmqSink(address)
    assert check_address(address, insecure=True) == address


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:5563", "tcp://127.1.2.3:*", "tcp://[::1]:5563", "ipc:///run/x", "inproc://x"]
)
def test_loopback_needs_no_permission(address: str) -> None:
    assert check_address(address, insecure=False) == address


def test_localhost_is_written_as_zeromq_binds_it() -> None:
    assert check_address("tcp://localhost:5563", insecure=False) == "tcp://127.0.0.1:5563"


@pytest.mark.parametrize(
    "address",
    ["", "5563", "127.0.0.1:5563", "tcp://127.0.0.1", "tcp://:1", "http://127.0.0.1:1", "tcp://a b:1", "ipc://"],
)
def test_a_malformed_address_is_shown_a_good_one(address: str) -> None:
    with pytest.raises(FeedError, match=r"expected an address like tcp://127.0.0.1:5563"):
        check_address(address, insecure=True)


def test_a_port_beyond_65535_is_refused() -> None:
    with pytest.raises(FeedError, match=r"expected a port up to 65535, got 'tcp://127.0.0.1:65536'"):
        check_address("tcp://127.0.0.1:65536", insecure=False)
