"""Files to be prepared, one after another or by several processes; a process that dies is reported, not waited for."""

import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import cv2

from stream.perception import detection, networks, pose_task
from stream.perception.networks import NetworkError
from train.corpora.clips import Clip
from train.corpora.items import CorpusError
from train.preparation import cache
from train.preparation.one_file import Preparer
from train.preparation.prepared import Needs

Job = dict[Path, Clip]  # clips of one file, by where each is to be stored
Done = tuple[Path, str | None]  # where a clip was stored, or why it cannot be used
_READY, _END = "ready", "end"


class _Failure(str):
    """What went wrong in a process that is nobody's fault but ours, with its traceback."""

    __slots__ = ()


def run(jobs: Sequence[Job], needs: Needs, workers: int) -> Generator[Done, None, None]:
    """Prepare and store all clips, each reported as soon as it is done, in no order.

    To be closed: that ends the processes. They do not outlive this one either.

    Args:
        jobs: One for each file.
        needs: What is taken out of each clip.
        workers: Processes; one job at a time is done in this one.

    Raises:
        NetworkError: If a network of perception cannot be had.
        CorpusError: If the cache cannot be written.
        RuntimeError: If a process cannot begin, or fails for a reason that is not the clip's.
    """
    if min(workers, len(jobs)) > 1:
        _fetch(needs)
        yield from _in_processes(deque(jobs), needs, min(workers, len(jobs)))
    elif jobs:
        with Preparer(needs) as preparer:
            for job in jobs:
                yield from _prepare(preparer, job)


def _fetch(needs: Needs) -> None:
    # Once, before many processes find that a network is missing.
    faces = needs.face is not None and needs.face.align != "frame"
    wanted = [detection.NETWORK] if faces else []
    wanted += [pose_task.DETECTOR, pose_task.LANDMARKER] if needs.pose else []
    for name in wanted:
        networks.find(name)


def _prepare(preparer: Preparer, job: Job) -> Generator[Done, None, None]:
    paths = {id(clip): path for path, clip in job.items()}
    for clip, result in preparer.prepare(list(job.values())):
        if not isinstance(result, str):
            cache.write(paths[id(clip)], result)
        yield paths[id(clip)], result if isinstance(result, str) else None


class _Hand:
    """A process, our end of its pipe, and what it has not yet done of its job."""

    def __init__(self, needs: Needs) -> None:
        context = multiprocessing.get_context("spawn")  # MediaPipe's threads do not survive a fork
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(theirs, needs), daemon=True)
        self.process.start()
        theirs.close()  # so that its death ends the pipe
        self.began = False
        self.rest: set[Path] = set()

    def give(self, job: Job | None) -> None:
        self.rest = set(job or ())
        with suppress(OSError):  # it died just now: the end of its pipe says so
            self.pipe.send(job)

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def _in_processes(waiting: deque[Job], needs: Needs, n: int) -> Generator[Done, None, None]:
    hands = [_Hand(needs) for _ in range(n)]
    try:
        while hands:
            ready: list[Connection] = wait([hand.pipe for hand in hands])  # type: ignore[assignment]
            for hand in [hand for hand in hands if hand.pipe in ready]:
                try:
                    message = hand.pipe.recv()
                except (EOFError, OSError):
                    hands.remove(hand)
                    yield from _lost(hand)
                    if waiting:
                        hands.append(_Hand(needs))
                    continue
                if isinstance(message, _Failure):
                    raise RuntimeError(f"preparing clips failed in process {hand.process.pid}:\n{message}")
                if isinstance(message, NetworkError | CorpusError):
                    raise message
                if message in (_READY, _END):
                    hand.began = True
                    if not waiting:
                        hands.remove(hand)
                        hand.end()
                    else:
                        hand.give(waiting.popleft())
                else:
                    hand.rest.discard(message[0])
                    yield message
    finally:
        for hand in hands:
            hand.end()


def _lost(hand: _Hand) -> Generator[Done, None, None]:
    hand.process.join()
    code = hand.process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    if not hand.began:
        raise RuntimeError(f"a process that prepares clips {how} before it began; try it with one worker")
    hand.pipe.close()
    yield from ((path, f"the process that prepared it {how}") for path in sorted(hand.rest))


def _work(pipe: Connection, needs: Needs) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who was interrupted is the parent, which ends this one
    cv2.setNumThreads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        try:
            with Preparer(needs) as preparer:
                pipe.send(_READY)
                while True:
                    for done in _prepare(preparer, pipe.recv()):
                        pipe.send(done)
                    pipe.send(_END)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except (NetworkError, CorpusError) as error:
            pipe.send(type(error)(str(error)))
        except Exception:
            pipe.send(_Failure(traceback.format_exc()))
