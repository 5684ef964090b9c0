"""`emocast hub`: several publishers' streams through one address."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from stream.feed.hub import Hub
from stream.feed.keys import load_server_keys
from stream.feed.security import FeedError, check_address
from stream.feed.sinks import ZmqSink
from tools.errors import DONE
from tools.feeds.reading import subscribe

DEFAULT_ADDRESS = "tcp://127.0.0.1:5565"
TURN_S = 0.5  # how long Ctrl-C may wait where a signal does not end a poll


def hub(
    addresses: Sequence[str],
    *,
    address: str = DEFAULT_ADDRESS,
    insecure: bool = False,
    keys: bool = False,
    key: str | None = None,
) -> int:
    """Pass on what is published at several addresses, until Ctrl-C or SIGTERM.

    Args:
        addresses: Of the publishers, which may start later and restart.
        address: Where to publish all of it.
        insecure: Whether any address but loopback is allowed without keys.
        keys: Encrypt what is published, and let only authorised clients in, as `emocast live --keys` does.
        key: Name of the client whose keys are used to read, where the publishers have keys: all of them the same.

    Returns:
        The exit code, 0.

    Raises:
        FeedError: If an address is malformed, not allowed, given twice or in use, or keys are not there.
    """
    if not addresses:
        raise FeedError("expected the addresses of one publisher or more, got none; emocast hub tcp://127.0.0.1:5563")
    server_keys = load_server_keys() if keys else None
    named = [check_address(one, insecure=insecure, encrypted=key is not None) for one in addresses]
    named.append(check_address(address, insecure=insecure, encrypted=keys))
    if twice := next((one for one in named if named.count(one) > 1), None):
        raise FeedError(f"expected each address once, got {twice} twice; a hub publishes on an address of its own")
    with ExitStack() as life:
        sources = [life.enter_context(subscribe(source, insecure=insecure, key=key)) for source in addresses]
        sink = ZmqSink(address, insecure=insecure, keys=server_keys)
        running = life.enter_context(Hub(sources, sink, told=_say))
        life.enter_context(_until_told_to_end())
        _say(f"publishing on {running.address} what comes from {', '.join(addresses)}")
        while True:
            running.serve(TURN_S)
    return DONE


def _say(line: str) -> None:
    print("".join(c if c.isprintable() else "�" for c in f"emocast: {line}"), file=sys.stderr, flush=True)


@contextmanager
def _until_told_to_end() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
