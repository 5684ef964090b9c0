"""Opens the camera that is meant: first by what a person wrote, then by the name that it turned out to have."""

from collections.abc import Callable, Sequence

from stream.sources.cameras.capture import Capture, PictureFormat
from stream.sources.cameras.listing import CameraInfo, find, find_again, list_cameras
from stream.sources.cameras.local import LocalCapture
from stream.sources.cameras.network import NetworkCapture


class Finder:
    """Opens one camera, any number of times, each time in any thread.

    Args:
        spec: An index, a path under /dev, a name or a part of one, or a URL.
        asked: The format to ask for.
        cameras: Lists those of this machine.
        open_local, open_network: Open one; these three stand for the real ones in tests.
    """

    def __init__(
        self,
        spec: str,
        asked: PictureFormat,
        *,
        cameras: Callable[[], Sequence[CameraInfo]] = list_cameras,
        open_local: Callable[[CameraInfo, PictureFormat], Capture] = LocalCapture,
        open_network: Callable[[str, PictureFormat], Capture] = NetworkCapture,
    ) -> None:
        self._spec, self._asked, self._cameras = spec, asked, cameras
        self._open_local, self._open_network = open_local, open_network
        self._known: CameraInfo | None = None

    def open(self) -> Capture:
        """Open it.

        Raises:
            SourceError: If it is not there, cannot be opened, or gives something else than was asked for.
        """
        if "://" in self._spec:
            return self._open_network(self._spec, self._asked)
        cameras = self._cameras()
        camera = find(self._spec, cameras) if self._known is None else find_again(self._known, cameras)
        capture = self._open_local(camera, self._asked)
        self._known = camera
        return capture
