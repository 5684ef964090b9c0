"""`emocast hub`: several publishers' streams through one address."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from stream.feed.hub import Hub
from stream.feed.security import FeedError, check_address
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from tools.errors import DONE

DEFAULT_ADDRESS = "tcp://127.0.0.1:5565"
TURN_S = 0.5  # how long Ctrl-C may wait where a signal does not end a poll


def hub(addresses: Sequence[str], *, address: str = DEFAULT_ADDRESS, insecure: bool = False) -> int:
    """Pass on what is published at several addresses, until Ctrl-C or SIGTERM.

    Args:
        addresses: Of the publishers, which may start later and restart.
        address: Where to publish all of it.
        insecure: Whether any address but loopback is allowed.

    Returns:
        The exit code, 0.

    Raises:
        FeedError: If an address is malformed, not allowed, given twice or in use.
    """
    if not addresses:
        raise FeedError("expected the addresses of one publisher or more, got none; emocast hub tcp://127.0.0.1:5563")
    named = [check_address(one, insecure=insecure) for one in (*addresses, address)]
    if twice := next((one for one in named if named.count(one) > 1), None):
        raise FeedError(f"expected each address once, got {twice} twice; a hub publishes on an address of its own")
    with ExitStack() as life:
        sources = [life.enter_context(Subscriber(source, insecure=insecure)) for source in addresses]
        running = life.enter_context(Hub(sources, ZmqSink(address, insecure=insecure), told=_say))
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
