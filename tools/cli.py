"""The `emocast` command: thin, one function a command. What each does lies in the module of its name."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Toml

from engines.tensorrt.build import BuildOptions, batches_of
from stream.config import FeedConfig, LiveConfig, SessionConfig
from stream.feed.security import DEFAULT_ADDRESS
from tools.errors import DONE, INTERRUPTED, MISUSE, WRONG_USE, leave_output
from tools.recognisers.train_options import TableOptions, TrainOptions

app = App(
    name="emocast",
    help="Real-time audio-visual emotion recognition: camera and microphone, or recorded files, to a ZeroMQ feed.",
)
models = App(name="models", help="The recogniser bundles that come with emocast.")
bench = App(name="bench", help="How fast emocast is on this machine.")
engine = App(name="engine", help="The engines that run a bundle's graphs: compile them for a GPU, verify, measure.")
keys = App(name="keys", help="The keys with which a feed may leave this machine.")
app.command(models)
app.command(bench)
app.command(engine)
app.command(keys)

# The fields of a settings dataclass are options of their own.
Session = Annotated[SessionConfig, Parameter(name="*")]
Training = Annotated[TrainOptions, Parameter(name="*")]
Tables = Annotated[TableOptions, Parameter(name="*")]
Outlet = Annotated[FeedConfig, Parameter(name="*")]
Devices = Annotated[LiveConfig, Parameter(name="*")]
Build = Annotated[BuildOptions, Parameter(name="*")]


@app.command
def demo(
    *,
    session: Session = SessionConfig(),
    feed: Outlet = FeedConfig(),
) -> int:
    """Stream a made clip with a real face through the whole line; needs no device and no file."""
    from tools.replaying.demo import demo

    return demo(session=session, feed=feed)


@app.command
def replay(
    *files: str,
    speed: Literal["realtime", "max"] = "realtime",
    verify: Path | None = None,
    chaos: str | None = None,
    control: str | None = None,
    quiet: bool = False,
    session: Session = SessionConfig(),
    feed: Outlet = FeedConfig(),
) -> int:
    """Replay recorded files or URLs as if they were live, one after the other.

    Parameters
    ----------
    files
        Files or URLs, each a stream named after its file.
    speed
        `realtime` paces by presentation time, `max` goes as fast as the line can. Both publish the same estimates.
    verify
        Instead, analyse this recording of `emocast live` again and compare with what was published then.
    chaos
        Faults to inject, `camera-loss@10s+3s,overrun@5s,drift=200ppm,stall@8s+1s` for example.
    control
        Address where `emocast control` is listened to, for a single file: status, pause, resume, mark and shutdown.
    quiet
        Print nothing on standard output.
    """
    from stream.sources.media import Speed
    from tools.replaying.replay import replay

    if verify is not None:
        from tools.replaying.verify import verify as verified

        return verified(verify, speed=Speed(speed))
    if not files:
        raise ValueError("expected one or more files or URLs to replay, got none")
    return replay(
        files, speed=Speed(speed), session=session, feed=feed, chaos=chaos, control=control, quiet=quiet
    )  # fmt: skip


@app.command
def live(
    *,
    quiet: bool = False,
    devices: Devices = LiveConfig(),
    session: Session = SessionConfig(),
    feed: Outlet = FeedConfig(),
) -> int:
    """Analyse a camera and a microphone while it happens, until Ctrl-C.

    Parameters
    ----------
    quiet
        Print nothing on standard output.
    """
    from tools.capture.live import live

    return live(devices=devices, session=session, feed=feed, quiet=quiet)


@app.command
def calibrate(
    *,
    listen: bool = False,
    make: Path | None = None,
    neutral: str | None = None,
    seconds: float = 10.0,
    out: Path | None = None,
    devices: Devices = LiveConfig(),
    session: Session = SessionConfig(),
) -> int:
    """Measure how late the camera is against the microphone, or take a person's neutral face and voice.

    Parameters
    ----------
    listen
        Another device flashes and clicks, a phone with the clip of --make for example; otherwise this screen does.
    make
        Write the flash-and-click clip for another device, and nothing else.
    neutral
        Name of a person, whose neutral face and voice are taken; use them with --baseline NAME.
    seconds
        How long the neutral face and voice are taken.
    out
        Write the person's baseline to this JSON file, in place of where it is kept.
    """
    from tools.capture.calibrate import calibrate

    return calibrate(
        listen=listen, make=make, neutral=neutral, seconds=seconds, out=out, devices=devices, session=session
    )


@app.command(name="devices")
def devices_(*, seconds: float = 0.5, list_: Annotated[bool, Parameter(name="--list")] = False) -> int:
    """List the cameras and microphones that are here, and try each for a moment.

    Parameters
    ----------
    seconds
        How long each is tried.
    list_
        List them and open none.
    """
    from tools.capture.devices import devices

    return devices(seconds=seconds, tried=not list_)


@app.command
def watch(address: str = DEFAULT_ADDRESS, *, json: bool = False, insecure: bool = False, key: str | None = None) -> int:
    """Show a feed in the terminal.

    Parameters
    ----------
    address
        Of the publisher.
    json
        One JSON message a line instead.
    insecure
        Allow an address other than loopback without keys.
    key
        Name of the client whose keys are used, for a feed with keys.
    """
    from tools.feeds.watch import watch

    return watch(address, json_lines=json, insecure=insecure, key=key)


@models.default
def models_list() -> int:
    """List the bundles that come with emocast."""
    from tools.recognisers.models import list_bundles

    return list_bundles()


@models.command(name="show")
def models_show(name: str) -> int:
    """Show a bundle: inputs, windows, training corpora and their terms, scores.

    Parameters
    ----------
    name
        A shipped bundle's name, or a bundle folder.
    """
    from tools.recognisers.models import show_bundle

    return show_bundle(name)


@app.command
def train(
    recipe: str | None = None,
    *,
    data: list[str] | None = None,
    list_: Annotated[bool, Parameter(name="--list")] = False,
    options: Training = TrainOptions(),
) -> int:
    """Train a recogniser from its corpora, measure it, and make its bundle.

    Parameters
    ----------
    recipe
        Name of the recipe; see --list.
    data
        NAME=DIR of a corpus in its official layout; repeatable where the recipe takes several.
    list_
        Name the recipes.
    """
    from tools.recognisers.training import list_recipes, train

    if list_ or recipe is None:
        return list_recipes()
    return train(recipe, data or [], options)


@app.command
def evaluate(
    bundle: str = "default",
    *,
    faces: list[str] | None = None,
    voices: list[str] | None = None,
    split: Literal["train", "valid", "test", "all"] = "valid",
    json: bool = False,
    engine: str = "auto",
    seed: int = 0,
) -> int:
    """Measure a bundle on faces, on voices, or on class-matched pairs of both.

    Parameters
    ----------
    bundle
        A shipped bundle's name, or a bundle folder.
    faces
        CORPUS:DIR, `ferplus:DIR`.
    voices
        CORPUS:DIR, of ravdess, emodb, nemo, cremad; repeatable.
    split
        Which people: `valid` and `test` were not trained on.
    json
        One JSON object instead of tables.
    engine
        `auto`, or a backend by name.
    seed
        Of the window draws and of the pairing.
    """
    from tools.recognisers.evaluation import evaluate

    return evaluate(bundle, faces or [], voices or [], split=split, as_json=json, engine=engine, seed=seed)


@app.command
def tables(
    paper: str | None = None,
    *,
    data: list[str] | None = None,
    list_: Annotated[bool, Parameter(name="--list")] = False,
    rows: str | None = None,
    options: Tables = TableOptions(),
) -> int:
    """Run the configurations of a paper's tables, and write ours beside the published figures.

    Parameters
    ----------
    paper
        Name of its recogniser; without it and without --data the rows of all papers are listed.
    data
        NAME=DIR of a corpus in its official layout; repeatable.
    list_
        List the rows with their published figures and run nothing.
    rows
        Part of the name of a row, or a pattern with * and ?.
    """
    from tools.recognisers.tables import tables

    return tables(paper, data or [], list_=list_, rows=rows, options=options)


@bench.command(name="throughput")
def bench_throughput(
    clip: str,
    *,
    repeat: int = 5,
    json: bool = False,
    session: Session = SessionConfig(),
) -> int:
    """How many times faster than real time a clip is analysed.

    Parameters
    ----------
    clip
        A file.
    repeat
        Runs; the first warms up and is not counted.
    json
        One JSON object instead of a table.
    """
    from tools.measure.bench import throughput

    return throughput(clip, repeat=repeat, as_json=json, session=session)


@bench.command(name="latency")
def bench_latency(
    clip: str,
    *,
    json: bool = False,
    session: Session = SessionConfig(),
) -> int:
    """What the line adds between a complete window and the message in a subscriber's hands.

    Parameters
    ----------
    clip
        A file; it is replayed at real-time speed.
    json
        One JSON object instead of a table.
    """
    from tools.measure.bench import latency

    return latency(clip, as_json=json, session=session)


@engine.command(name="build")
def engine_build(
    bundle: str = "default",
    *,
    anew: bool = False,
    options: Build = BuildOptions(),
) -> int:
    """Compile a bundle's graphs for this machine's GPU with TensorRT, and accept each plan or refuse it.

    Parameters
    ----------
    bundle
        A shipped bundle's name, or a bundle folder.
    anew
        Compile also what was compiled before.
    """
    from tools.engine.build import build

    return build(bundle, options, anew=anew)


@engine.command(name="verify")
def engine_verify(
    bundle: str = "default",
    *,
    out: Path | None = None,
    options: Build = BuildOptions(),
) -> int:
    """Check the graphs, CUDA and TensorRT on this machine; the report can be attached to an issue.

    Parameters
    ----------
    bundle
        A shipped bundle's name, or a bundle folder.
    out
        Also write the report to this file.
    """
    from tools.engine.verify import verify

    return verify(bundle, options, out=out)


@engine.command(name="bench")
def engine_bench(
    bundle: str = "default",
    *,
    batch: str = "1,4,16",
    rounds: int = 15,
    budget: float = 8.0,
    threads: int = 1,
    json: bool = False,
    picture: Path | None = None,
) -> int:
    """How fast each graph is on each backend here, beside torch where that is installed.

    Parameters
    ----------
    bundle
        A shipped bundle's name, or a bundle folder.
    batch
        Batch sizes, ascending.
    rounds
        In which backends take turns.
    budget
        Seconds that the timing of one graph may take; larger batches of large graphs want more.
    threads
        Threads inside an operator, on a CPU.
    json
        One JSON object instead of a table.
    picture
        Also draw it into this PNG file.
    """
    from tools.engine.bench import bench

    return bench(
        bundle, batches=batches_of(batch), rounds=rounds, budget_s=budget, threads=threads, as_json=json,
        picture=picture,
    )  # fmt: skip


@app.command
def dashboard(
    address: str = DEFAULT_ADDRESS,
    *,
    host: str = "127.0.0.1",
    port: int = 5580,
    token: Annotated[str | None, Parameter(env_var="EMOCAST_TOKEN")] = None,
    file: Path | None = None,
    key: str | None = None,
    insecure: bool = False,
    open_browser: bool = False,
) -> int:
    """Show a feed in a browser.

    Parameters
    ----------
    address
        Of the publisher; or a .jsonl or a recording (.mkv) to scrub in.
    host
        Where the page is served; any but loopback needs --token.
    port
        Likewise; 0 takes any free one.
    token
        What the address of the page must carry, 8 characters or more. In EMOCAST_TOKEN or a --config file it is in no
        list of processes.
    file
        Open this .jsonl or recording (.mkv) and scrub in it, instead of a feed.
    key
        Name of the client whose keys are used, for a feed with keys.
    insecure
        Allow an address other than loopback without keys.
    open_browser
        Open the page in this machine's browser.
    """
    from tools.dashboard.dashboard import dashboard

    return dashboard(
        address, host=host, port=port, token=token, file=file, insecure=insecure, open_browser=open_browser, key=key
    )


@app.command
def hub(
    *addresses: str,
    bind: str = "tcp://127.0.0.1:5565",
    insecure: bool = False,
    keys: bool = False,
    key: str | None = None,
) -> int:
    """Pass several publishers' streams on through one address.

    Parameters
    ----------
    addresses
        Of the publishers.
    bind
        Where to publish all of them.
    insecure
        Allow addresses other than loopback without keys.
    keys
        Encrypt what is published here, and let only authorised clients in.
    key
        Name of the client whose keys are used to read, for publishers with keys.
    """
    from tools.feeds.hub import hub

    return hub(addresses, address=bind, insecure=insecure, keys=keys, key=key)


@app.command
def control(
    command: str,
    text: str | None = None,
    *,
    lossless: bool = False,
    address: str = "tcp://127.0.0.1:5564",
    key: str | None = None,
) -> int:
    """Ask something of a running `emocast live --control ADDRESS`, or `emocast replay --control ADDRESS`.

    Parameters
    ----------
    command
        `status`, `pause`, `resume`, `set-hop`, `record`, `stop-recording`, `mark` or `shutdown`.
    text
        With `mark`: the note for the feed and the recording. With `set-hop`: seconds between estimates. With `record`:
        the plain name of a new .mkv file, in the folder that the session was started with (--record-folder).
    lossless
        With `record`: keep pictures and samples bit by bit.
    address
        Of its control socket.
    key
        Name of the client whose keys are used, for a session with keys.
    """
    from tools.feeds.control import control

    return control(command, text, lossless=lossless, address=address, key=key)


@keys.command(name="server")
def keys_server(*, force: bool = False) -> int:
    """Make the publisher's pair of keys.

    Parameters
    ----------
    force
        Replace a pair that is there; clients that have its public key are then shut out.
    """
    from tools.feeds.keys import make_server

    return make_server(force=force)


@keys.command(name="client")
def keys_client(name: str, *, control: bool = False, force: bool = False) -> int:
    """Make a client's pair of keys and authorise it.

    Parameters
    ----------
    name
        Of the client.
    control
        Let it control sessions, too: pause, record and end them; also where its pair is there already.
    force
        Replace a pair of that name.
    """
    from tools.feeds.keys import make_client

    return make_client(name, control=control, force=force)


@keys.default
def keys_list() -> int:
    """List the keys that are there."""
    from tools.feeds.keys import list_keys

    return list_keys()


@app.command
def doctor() -> int:
    """What is here, what is missing, and the command that gets it."""
    from tools.doctor import doctor

    return doctor()


@app.meta.default
def _with_config(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)], config: Path | None = None
) -> int:
    """Real-time audio-visual emotion recognition.

    Parameters
    ----------
    config
        TOML file with the same names as the options; what the command line gives goes before it.
    """
    if config is not None and not config.is_file():
        raise ValueError(f"--config: expected a TOML file, {config} is none")
    app.config = () if config is None else (Toml(config, use_commands_as_keys=False),)
    result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    return result if isinstance(result, int) else DONE


def main() -> None:
    """Run the command line and leave with its exit code: 0 done, 2 wrong use or bad input, 1 a fault of ours."""
    logging.basicConfig(format="emocast: %(message)s")  # warnings: what a person should know and need not mend
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        leave_output()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command; what a person can mend is one line on standard error and exit code 2."""
    try:
        result = app.meta(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else DONE
    except CycloptsError as error:
        print(f"emocast: {' '.join(str(error).split())}; see emocast --help", file=sys.stderr)
    except WRONG_USE as error:
        print(f"emocast: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return INTERRUPTED
    return MISUSE
