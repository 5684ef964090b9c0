"""A browser for the tests of the dashboard's page."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.dashboards import DESK, Page, start_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    """The page as at a desk; its console has said nothing when the test is over."""
    page = Page(browser)
    page.screen(**DESK)
    page.prefers("light")
    page.errors()  # of the test before
    yield page
    assert page.errors() == []
    page.open("about:blank")
