"""Dashboards in tests: a real feed followed by a real page server, what a viewer is told, and a browser."""

import http.client
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from stream.feed.subscriber import Subscriber
from tests.feeds import WAIT_S, until
from tools.dashboard.board import Board
from tools.dashboard.dashboard import follow, show
from tools.dashboard.history import History
from tools.dashboard.server import PageServer

FLAGS = (
    "--headless",
    "--no-sandbox",  # as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def following(address: str, port: int = 0) -> Iterator[PageServer]:
    """A dashboard of the feed at this address."""
    with Subscriber(address) as feed:
        board = Board(History(), source=address)
        with served(board, port) as server, attended(lambda ended: follow(feed, board, ended)):
            yield server


@contextmanager
def showing(board: Board) -> Iterator[PageServer]:
    """A dashboard of a board that does not change."""
    with served(board) as server, attended(lambda ended: show(board, ended)):
        yield server


@contextmanager
def served(board: Board, port: int = 0, token: str | None = None) -> Iterator[PageServer]:
    with PageServer(board, host="127.0.0.1", port=port, token=token) as server:
        yield server


@contextmanager
def attended(run: Any) -> Iterator[None]:
    ended = threading.Event()
    thread = threading.Thread(target=run, args=(ended,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(WAIT_S)


def answer(url: str, path: str = "/", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of one request."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=WAIT_S)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        connection.close()


@contextmanager
def events(url: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """What a viewer is told, as names and values."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=WAIT_S)
    try:
        connection.request("GET", f"/feed?{urlsplit(url).query}")
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        yield _parsed(response)
        response.close()
    finally:
        connection.close()


def knows(url: str, stream: str) -> bool:
    """Whether a dashboard has heard of a stream, and so is connected to its feed."""
    with events(url) as told:
        return stream in next(told)[1]["streams"]


def _parsed(lines: Any) -> Iterator[tuple[str, Any]]:
    while line := lines.readline():
        name = line.decode().removeprefix("event: ").strip()
        value = json.loads(lines.readline().decode().removeprefix("data: "))
        assert lines.readline() == b"\n"
        yield name, value


DESK = {"width": 1400, "height": 1000, "deviceScaleFactor": 1, "mobile": False}


class Page:
    """What is on the screen."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser

    def open(self, url: str) -> None:
        self._browser.get(url)

    def reopen(self) -> None:
        self._browser.refresh()

    def run(self, script: str, *arguments: Any) -> Any:
        return self._browser.execute_script(script, *arguments)

    def text(self, selector: str) -> list[str]:
        """The text of what is visible under each element that matches."""
        script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility())"
        found: list[str] = self.run(script + ".map(e => e.innerText.trim())", selector)
        return found

    def shows(self, selector: str, *texts: str) -> None:
        until(lambda: self.text(selector) == list(texts))

    def screen(self, **size: Any) -> None:
        self._browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefers(self, colours: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": colours}]
        self._browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def errors(self) -> list[str]:
        """What the console says, but for advice on how `drawn` reads pictures."""
        said = [entry["message"] for entry in self._browser.get_log("browser")]
        return [message for message in said if "getImageData" not in message]

    def ground(self) -> int:
        """Red, green and blue of the page's ground, summed: dark or light."""
        colour: str = self.run("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))

    def has_drawn(self, selector: str) -> bool:
        """Whether there are a few colours on a canvas."""
        script = """const c = document.querySelector(arguments[0]);
            const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            return new Set(new Uint32Array(p.buffer)).size;"""
        return int(self.run(script, selector)) > 3

    def scrub(self, t: float) -> None:
        """Move a recording's bar to a media time."""
        script = """const bar = document.querySelector('.scrub input');
            bar.value = arguments[0]; bar.dispatchEvent(new Event('input'));"""
        self.run(script, t)


def start_browser(profile: Path) -> Any:
    """A headless Chromium, or a skip that says what is missing."""
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        missing = "selenium"
    else:
        programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
        missing = ", ".join(name for name, path in programs.items() if path is None)
    if missing:
        assert os.environ.get("EMOCAST_REQUIRE_BROWSER") != "1", f"EMOCAST_REQUIRE_BROWSER=1, and there is no {missing}"
        pytest.skip(f"needs {missing}: apt-get install chromium chromium-driver; pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1400,1000"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))
