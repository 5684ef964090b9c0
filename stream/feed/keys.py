"""The keys of the feed and of the control: files of ZeroMQ's certificate format in the user's configuration folder.

    keys/server.key_secret      the publisher's; nobody else may read it
    keys/server.key             its public half, which every client needs
    keys/authorised/NAME.key    public keys of the clients that may read the feed
    keys/authorised-control/NAME.key  of those that may control a session: pause it, record it, end it
    keys/NAME.key_secret        a client's; it goes, with server.key, into `keys` on the client's machine

`emocast keys` makes them.
"""

import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.auth

from engines.whole_file import write_whole
from stream.config_folder import config_folder
from stream.feed.security import FeedError

SERVER = "server"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True, kw_only=True)
class ServerKeys:
    """What a publisher needs to encrypt, and to know its clients.

    Attributes:
        secret: Secret key, Z85, 40 characters.
        authorised: Folder of the public keys that are let in, `NAME.key`; read again whenever it changes.
    """

    secret: bytes = field(repr=False)
    authorised: Path


@dataclass(frozen=True, kw_only=True)
class ClientKeys:
    """What a client needs.

    Attributes:
        server_key: Public key of the publisher, Z85: nobody else can pose as it.
        client_secret: The client's own secret key, Z85.
    """

    server_key: bytes
    client_secret: bytes = field(repr=False)


def keys_folder() -> Path:
    """Where the keys lie unless another folder is named; nothing is made."""
    return config_folder() / "keys"


def load_server_keys(folder: Path | None = None, *, control: bool = False) -> ServerKeys:
    """The publisher's keys.

    Args:
        folder: Where, in place of the user's.
        control: For the control of a session, into which not all are let that may read its feed.

    Raises:
        FeedError: If there are none, or others may read the secret one.
    """
    folder = folder or keys_folder()
    return ServerKeys(
        secret=_secret(folder / "server.key_secret", "emocast keys server"),
        authorised=authorised(folder, control=control),
    )


def load_client_keys(name: str, folder: Path | None = None) -> ClientKeys:
    """The keys of the client `name`.

    Raises:
        FeedError: If one is missing, or others may read the secret one.
    """
    folder = folder or keys_folder()
    secret = _secret(folder / f"{check_name(name)}.key_secret", f"emocast keys client {name}, or copy it from there")
    return ClientKeys(server_key=_load(folder / "server.key", "copy the publisher's to there")[0], client_secret=secret)


def authorised(folder: Path, *, control: bool = False) -> Path:
    """The folder of the public keys of those who may read the feed, or may control, below that of the keys."""
    return folder / ("authorised-control" if control else "authorised")


def allow_control(name: str, folder: Path) -> None:
    """Let a client that may read the feed control sessions, too.

    Raises:
        FeedError: If its public key is not there, or cannot be written.
    """
    public = authorised(folder) / f"{check_name(name)}.key"
    _load(public, f"make it with emocast keys client {name}")
    target = authorised(folder, control=True) / public.name
    try:
        target.parent.mkdir(exist_ok=True, mode=0o700)
        write_whole(target, public.read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FeedError(f"the key cannot be written to {target.parent}: {reason}") from error


def forbid_control(name: str, folder: Path) -> None:
    """Do not let a client control sessions any more; it may not have been allowed to."""
    (authorised(folder, control=True) / f"{check_name(name)}.key").unlink(missing_ok=True)


def check_name(name: str) -> str:
    """The name of a client, once it is known to be one that a file can have.

    Raises:
        FeedError: If it is not.
    """
    if not _NAME.fullmatch(name) or name == SERVER:
        raise FeedError(f"expected a client's name of letters, digits, '.', '_' and '-', not {SERVER}, got {name!r}")
    return name


def is_key(key: bytes) -> bool:
    """Whether this is a key as files hold it: Z85, 40 characters."""
    return _KEY.fullmatch(key) is not None


def read_public(path: Path) -> bytes:
    """The public key in a certificate, Z85.

    Raises:
        ValueError: If there is none.
        OSError: If the file cannot be read.
    """
    key, _ = zmq.auth.load_certificate(path)
    if not is_key(key):
        raise ValueError(f"expected a public key of 40 characters in {path}")
    return key


def make_pair(public: Path, secret: Path, *, force: bool) -> None:
    """Write a new pair of keys; both files are whole, and the secret one is its owner's alone from the first byte on.

    Args:
        public: The certificate for others, `*.key`.
        secret: The certificate to keep, `*.key_secret`.
        force: Whether files that are there are replaced.

    Raises:
        FeedError: If one is there already, or cannot be written.
    """
    for path in (public, secret):
        if path.exists() and not force:
            raise FeedError(f"{path} is there already and may be in use; pass --force to replace it")
    try:
        for path in (public, secret):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=secret.parent) as made:  # a folder that its owner alone may enter
            made_public, made_secret = zmq.auth.create_certificates(made, "new")
            os.chmod(made_secret, 0o600)
            os.replace(made_secret, secret)
            os.replace(made_public, public)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FeedError(f"the keys cannot be written to {secret.parent}: {reason}") from error


def _secret(path: Path, how: str) -> bytes:
    secret = _load(path, f"make it with {how}")[1]
    if secret is None or not is_key(secret):
        raise FeedError(f"expected a secret key of 40 characters in {path}; make it with {how}")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise FeedError(f"{path} can be read by others than its owner; make the keys anew, or chmod 600 {path}")
    return secret


def _load(path: Path, how: str) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError):
        raise FeedError(f"there is no key in {path}; {how}") from None
