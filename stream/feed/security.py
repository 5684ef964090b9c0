"""Who may be reached: feed addresses are checked here, and any but loopback is refused unless asked for by name."""

import ipaddress
import re

DEFAULT_ADDRESS = "tcp://127.0.0.1:5563"
_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5}|\*)")
_LOCAL = re.compile(r"(ipc|inproc)://\S+")


class FeedError(Exception):
    """The feed cannot do what was asked; the text is one line for the person who asked."""


def check_address(address: str, *, insecure: bool, encrypted: bool = False, only_keys: bool = False) -> str:
    """The address as ZeroMQ takes it, once it is known to be well formed and allowed.

    Args:
        address: `tcp://HOST:PORT`, `ipc://PATH` or `inproc://NAME`.
        insecure: Whether the feed may leave this machine, readable and forgeable by anybody on the way.
        encrypted: Whether keys are used, with which it may leave this machine.
        only_keys: Whether nothing but keys could allow it, so that nothing else is suggested.

    Raises:
        FeedError: If the address is malformed, or not loopback while `insecure` and `encrypted` are false.
    """
    tcp = _TCP.fullmatch(address)
    if tcp is None:
        if _LOCAL.fullmatch(address):
            return address
        raise FeedError(f"expected an address like tcp://127.0.0.1:5563 or ipc:///run/emocast, got {address!r}")
    if tcp["port"] != "*" and int(tcp["port"]) > 65_535:
        raise FeedError(f"expected a port up to 65535, got {address!r}")
    if not (insecure or encrypted or _is_loopback(tcp["host"])):
        why = f"{address} is not a loopback address and the feed is neither encrypted nor authenticated"
        if only_keys:
            raise FeedError(f"{why}; take tcp://127.0.0.1:PORT, or use keys (emocast keys)")
        raise FeedError(
            f"{why}; take tcp://127.0.0.1:PORT, use keys (emocast keys), or pass --insecure where everybody on the "
            "network may read it"
        )
    # ZeroMQ binds to numeric addresses and interface names only
    return address.replace("//localhost:", "//127.0.0.1:", 1)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name, an interface or `*`
        return False
