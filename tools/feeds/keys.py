"""`emocast keys`: makes the keys with which a feed may leave this machine, and says which there are."""

from pathlib import Path

from stream.feed.keys import (
    SERVER,
    allow_control,
    authorised,
    check_name,
    forbid_control,
    keys_folder,
    make_pair,
    read_public,
)
from tools.errors import DONE


def make_server(*, force: bool = False, folder: Path | None = None) -> int:
    """Make the publisher's pair of keys, and say what to do with it.

    Args:
        force: Replace a pair that is there; clients that have its public key are then shut out.
        folder: Where, in place of the user's.

    Raises:
        FeedError: If the pair is there already or cannot be written.
    """
    folder = folder or keys_folder()
    make_pair(folder / "server.key", folder / "server.key_secret", force=force)
    print(f"made the publisher's keys in {folder}; now emocast keys client NAME, then emocast live --keys")
    return DONE


def make_client(name: str, *, control: bool = False, force: bool = False, folder: Path | None = None) -> int:
    """Make a client's pair of keys and authorise it; a running feed lets it in from then on.

    Args:
        name: Of the client; the name of its files.
        control: Let it control sessions, too; a client that is authorised already keeps its keys.
        force: Replace a pair of that name; the new one may not control unless `control` says so.
        folder: Where, in place of the user's.

    Raises:
        FeedError: If the name cannot be one, or the pair is there already or cannot be written.
    """
    folder = folder or keys_folder()
    secret, public = folder / f"{check_name(name)}.key_secret", authorised(folder) / f"{name}.key"
    if control and not force and public.exists():  # its secret key may lie elsewhere
        allow_control(name, folder)
        print(f"the client {name} may control sessions, too: emocast control status --address ADDRESS --key {name}")
        return DONE
    make_pair(public, secret, force=force)
    forbid_control(name, folder)  # a key of that name that was replaced
    if control:
        allow_control(name, folder)
    print(
        f"made and authorised the client {name}{', also to control' if control else ''}; copy {secret} and "
        f"{folder / 'server.key'} to its machine, into the same folder there, and emocast watch ADDRESS --key {name}"
    )
    return DONE


def list_keys(*, folder: Path | None = None) -> int:
    """Print the keys that are there: the publisher's, of clients that may read or control, and the secret ones here."""
    folder = folder or keys_folder()
    server = folder / "server.key"
    print(f"{folder}")
    print(f"  publisher   {_shown(server)}" if server.exists() else "  publisher   none; emocast keys server makes it")
    for path in sorted(authorised(folder).glob("*.key")):
        print(f"  authorised  {_shown(path)}  {path.stem}")
    for path in sorted(authorised(folder, control=True).glob("*.key")):
        print(f"  may control {_shown(path)}  {path.stem}")
    for path in sorted(folder.glob("*.key_secret")):
        if path.stem != SERVER:
            print(f"  secret of   {_shown(path)}  {path.stem}")
    return DONE


def _shown(path: Path) -> str:
    try:
        return read_public(path).decode()
    except (OSError, ValueError) as error:
        return f"unreadable: {error}"
