"""The examples in other languages read a real feed; skipped by name where their language is not here."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream.feed.sinks import ZmqSink
from tests.feeds import ANY, WAIT_S, estimate, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
ZEROMQ_JS = "zeromq@6.8.0"  # with libraries built for Linux, macOS and Windows: no script is run to install it


def missing(what: str) -> None:
    """Skip the test; with EMOCAST_REQUIRE_EXAMPLES=1, as on machines that have all languages, it fails instead."""
    if os.environ.get("EMOCAST_REQUIRE_EXAMPLES") == "1":
        pytest.fail(f"EMOCAST_REQUIRE_EXAMPLES=1, but {what}")
    pytest.skip(what)


@contextmanager
def running(*command: str, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **environment}
    ) as process:
        watchdog = threading.Timer(WAIT_S, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def prints_what_is_published(*command: str, **environment: str) -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed, running(*command, sink.address, environment=environment) as process:
        assert process.stdout is not None
        feed.publish(estimate(2, 1.5))  # kept, and so told to it when it joins
        assert process.stdout.readline() == "estimate/a/2 1.5 happiness 0.75\n"
        feed.publish(estimate(3, 1.75, label=None, reason="uncertain"))
        assert process.stdout.readline() == "estimate/a/3 1.75 uncertain 0.75\n"


@pytest.fixture
def node_path(request: pytest.FixtureRequest) -> Path:
    """Folder of the npm package, installed once and kept in pytest's cache."""
    if not (shutil.which("node") and shutil.which("npm")):
        missing("this needs node and npm")
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("node")
    modules = folder / "node_modules"
    if not (modules / "zeromq" / "package.json").exists():
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=10000"]
        npm = subprocess.run(
            ["npm", "install", *options, "--prefix", str(folder), ZEROMQ_JS],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if npm.returncode:
            missing(f"npm cannot install {ZEROMQ_JS}: {npm.stderr[:300]}")
    return modules


def test_node_reads_the_feed(node_path: Path) -> None:
    prints_what_is_published("node", str(EXAMPLES / "subscribe.js"), NODE_PATH=str(node_path))


def test_cpp_reads_the_feed(tmp_path: Path) -> None:
    if not shutil.which("g++"):
        missing("this needs g++")
    headers = "#include <zmq.hpp>\n#include <nlohmann/json.hpp>\n"
    found = subprocess.run(["g++", "-std=c++17", "-E", "-x", "c++", "-"], input=headers, text=True, capture_output=True)
    if found.returncode:
        missing("this needs the headers of libzmq3-dev, cppzmq-dev and nlohmann-json3-dev")
    program = str(tmp_path / "subscribe")
    source = str(EXAMPLES / "subscribe.cpp")
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", source, "-lzmq", "-o", program], check=True)
    prints_what_is_published(program)
