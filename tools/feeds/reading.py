"""A subscriber to a feed, with the keys of a named client where the feed has keys."""

from stream.feed.keys import load_client_keys
from stream.feed.subscriber import Subscriber


def subscribe(address: str, *, insecure: bool, key: str | None) -> Subscriber:
    """Subscribe to everything.

    Args:
        address: Of the publisher, which may start later and restart.
        insecure: Whether any address but loopback is allowed without keys.
        key: Name of the client whose keys are used, for a feed with keys.

    Raises:
        FeedError: If the address is malformed or not allowed, or the keys are not there.
    """
    if key is None:
        return Subscriber(address, insecure=insecure)
    keys = load_client_keys(key)
    return Subscriber(address, server_key=keys.server_key, client_secret=keys.client_secret)
