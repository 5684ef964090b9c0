"""`emocast keys`: makes the keys with which a feed may leave this machine, and says which there are."""

from pathlib import Path

from stream.feed.keys import SERVER, authorised, check_name, keys_folder, make_pair, read_public
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


def make_client(name: str, *, force: bool = False, folder: Path | None = None) -> int:
    """Make a client's pair of keys and authorise it; a running feed lets it in from then on.

    Args:
        name: Of the client; the name of its files.
        force: Replace a pair of that name.
        folder: Where, in place of the user's.

    Raises:
        FeedError: If the name cannot be one, or the pair is there already or cannot be written.
    """
    folder = folder or keys_folder()
    secret = folder / f"{check_name(name)}.key_secret"
    make_pair(authorised(folder) / f"{name}.key", secret, force=force)
    print(
        f"made and authorised the client {name}; copy {secret} and {folder / 'server.key'} to its machine, "
        f"into the same folder there, and emocast watch ADDRESS --key {name}"
    )
    return DONE


def list_keys(*, folder: Path | None = None) -> int:
    """Print the keys that are there: the publisher's, the clients that are let in, and the secret keys held here."""
    folder = folder or keys_folder()
    server = folder / "server.key"
    print(f"{folder}")
    print(f"  publisher   {_shown(server)}" if server.exists() else "  publisher   none; emocast keys server makes it")
    for path in sorted(authorised(folder).glob("*.key")):
        print(f"  authorised  {_shown(path)}  {path.stem}")
    for path in sorted(folder.glob("*.key_secret")):
        if path.stem != SERVER:
            print(f"  secret of   {_shown(path)}  {path.stem}")
    return DONE


def _shown(path: Path) -> str:
    try:
        return read_public(path).decode()
    except (OSError, ValueError) as error:
        return f"unreadable: {error}"
