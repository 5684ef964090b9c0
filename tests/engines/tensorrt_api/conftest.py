"""The real bindings, described once for a run of the tests."""

import pytest

from tests.engines.tensorrt_api.api import Api, describe
from tests.engines.tensorrt_api.bindings import VERSIONS, UnavailableError, give_up


@pytest.fixture(scope="session", params=VERSIONS, ids=lambda versions: versions.tensorrt)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Api:
    """A version's bindings; skips where they cannot be had, unless EMOCAST_REQUIRE_TENSORRT_API says that they can."""
    try:
        folder = tmp_path_factory.mktemp("tensorrt")
        return describe(request.param, folder, mypy_cache=tmp_path_factory.getbasetemp() / "mypy")
    except UnavailableError as error:
        give_up(f"needs the bindings of TensorRT {request.param.tensorrt}: {error}")
