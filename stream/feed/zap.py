"""ZAP, ZeroMQ's question whether a client is let in (RFC 27), answered from a folder of public keys."""

import logging
from collections.abc import Sequence
from pathlib import Path

from zmq.utils import z85

from stream.feed.keys import ServerKeys, read_public

ZAP_ADDRESS = "inproc://zeromq.zap.01"
DOMAIN = b"emocast"
_log = logging.getLogger("emocast")


class Authorised:
    """The clients that are let in. A key that is taken out of the folder counts when its client next connects.

    Args:
        folder: Of `NAME.key` files, read again whenever one comes, goes or changes; it may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, tuple[int, int]] = {}  # time and size when it was read
        self._names: dict[bytes, str] = {}

    def name_of(self, key: bytes) -> str | None:
        """The client with this public key (Z85), or None where it is nobody's."""
        seen = self._look()
        if seen != self._seen:
            self._seen, self._names = seen, self._read(seen)
        return self._names.get(key)

    def _look(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for path in sorted(self._folder.glob("*.key")):
            try:
                state = path.stat()
            except OSError:  # it went in this moment
                continue
            found[path] = (state.st_mtime_ns, state.st_size)
        return found

    def _read(self, paths: dict[Path, tuple[int, int]]) -> dict[bytes, str]:
        names = {}
        for path in paths:
            try:
                names[read_public(path)] = path.stem
            except (OSError, ValueError) as error:
                _log.warning("left out a client's key that cannot be read: %s", error)
        return names


class Zap:
    """Answers ZeroMQ's questions; one thread uses it.

    Args:
        keys: Of the publisher, with the folder of clients; None lets everybody in.
    """

    def __init__(self, keys: ServerKeys | None) -> None:
        self._authorised = None if keys is None else Authorised(keys.authorised)

    def answer(self, question: Sequence[bytes]) -> tuple[list[bytes], str | None]:
        """The reply to a question, and who is refused and why, or None where the client is let in."""
        version, request, domain, address, _, mechanism, *credentials = question
        if self._authorised is None and (version, mechanism) == (b"1.0", b"NULL"):
            return _reply(request, b"200", b"OK"), None
        if (version, domain, mechanism, len(credentials)) != (b"1.0", DOMAIN, b"CURVE", 1) or not self._authorised:
            return _reply(request, b"400", b"expected a CURVE key"), f"{address.decode()}: it has no key"
        key = z85.encode(credentials[0])
        name = self._authorised.name_of(key)
        if name is None:
            told = f"{address.decode()}: its key {key[:8].decode()}... is none of those authorised"
            return _reply(request, b"400", b"not authorised"), told
        return _reply(request, b"200", b"OK", name.encode()), None

    def put_off(self, question: Sequence[bytes]) -> list[bytes]:
        """The reply that lets a client try again: from an error, ZeroMQ's clients never come back."""
        return _reply(question[1], b"300", b"try again")


def _reply(request: bytes, code: bytes, text: bytes, user: bytes = b"") -> list[bytes]:
    return [b"1.0", request, code, text, user, b""]
