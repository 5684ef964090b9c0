"""The preprocessing of a corpus: every clip once, into a cache, or one list of all that cannot be used."""

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train.corpora.clips import Clip, ClipCorpus
from train.corpora.items import CorpusError
from train.preparation import jobs as prepare_jobs
from train.preparation.cache import Damaged, file_of, is_whole, read, sources, sweep
from train.preparation.digests import Digests
from train.preparation.leave_out import without
from train.preparation.prepared import Needs, Prepared

T = TypeVar("T")
N_READERS = 4  # threads that hash media and check the cache; more only queue at the disk


@dataclass(frozen=True, kw_only=True)
class Store:
    """The prepared clips of a corpus, read from the cache when they are asked for. Any thread or process may read.

    Attributes:
        corpus: The corpus without what was left out; its clips and the indices in its folds are this store's.
        needs: What was prepared.
        left_out: Names that were left out on purpose, ascending: a result has to state them.
        files: Of each clip.
        n_made: Clips that were prepared just now; the others were in the cache.
    """

    corpus: ClipCorpus
    needs: Needs
    left_out: tuple[str, ...]
    files: tuple[Path, ...]
    n_made: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Prepared:
        """The clip `corpus.clips[index]`, new memory each time. Raises CorpusError if its file is gone or damaged."""
        name = self.corpus.clips[index].name
        try:
            return read(self.files[index], name)
        except (Damaged, OSError) as error:
            raise CorpusError(f"{name}: {error}; prepare the corpus again") from error


def prepare(
    corpus: ClipCorpus,
    needs: Needs,
    cache: Path,
    *,
    workers: int | None = None,
    leave_out: Collection[str] = (),
    progress: bool = True,
) -> Store:
    """Prepare every clip of a corpus that the cache does not hold yet.

    A run that was killed goes on where it was. Clips are known by their media's content, so renamed and copied files
    cost nothing, and a changed one is prepared anew; so is one whose file in the cache is damaged.

    Args:
        corpus: The corpus.
        needs: What its clips are needed for.
        cache: Its folder, which many corpora and needs may share.
        workers: Processes; None takes one for each core. A process needs some 300 MiB and the pictures of its clip.
        leave_out: Names of clips to do without, as `leave_out.read_names` reads them from a file.
        progress: Whether a bar is shown on stderr.

    Raises:
        CorpusError: If the cache cannot be written, if clips cannot be used (all of them are named, after all others
            are prepared), if a name to leave out is not in the corpus, or if a fold would be empty without them.
        NetworkError: If a network of perception cannot be had.
        ValueError: If the needs contradict themselves.
    """
    _check(needs, workers)
    corpus = without(corpus, leave_out)
    _open(cache)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bars:
        wrong: dict[str, str] = {}
        files = _files(corpus, needs, cache, wrong, bars)
        missing = _missing(corpus, files, bars)
        bar = bars.add_task(f"preparing {corpus.name}", total=len(missing))
        with closing(prepare_jobs.run(_jobs(missing, needs), needs, workers or os.cpu_count() or 1)) as done:
            for path, problem in done:
                bars.advance(bar)
                if problem is not None:
                    wrong |= {name: problem for name, file in files.items() if file == path}
    _report(corpus, wrong, cache, leave_out)
    paths = tuple(files[clip.name] for clip in corpus.clips)
    left_out = tuple(sorted(set(leave_out)))
    return Store(corpus=corpus, needs=needs, left_out=left_out, files=paths, n_made=len(missing))


def _open(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "media.jsonl").touch()
        sweep(cache)
    except OSError as error:
        raise CorpusError(f"cannot write the cache {cache}: {error.strerror}; choose another folder") from error


def _check(needs: Needs, workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise ValueError(f"expected at least one worker, got {workers}")
    if needs.face is None and needs.flow != "none":
        raise ValueError(f"expected the geometry of the crops that flow is between, got flow {needs.flow} without any")
    if needs.face is None and not needs.pose and not needs.audio:
        raise ValueError("expected needs of pictures, pose or sound, got none of them")


def _files(corpus: ClipCorpus, needs: Needs, folder: Path, wrong: dict[str, str], bars: Progress) -> dict[str, Path]:
    # Where each clip is to be; those whose media cannot be read are added to `wrong`.
    digests = Digests(folder)
    media = sorted({path for clip in corpus.clips for path in sources(clip, needs) if path is not None})
    unreadable: dict[Path, str] = {}
    known: dict[Path, str] = {}
    for path, digest in _each(f"reading {corpus.name}", media, lambda path: _digest(digests, path), bars):
        if isinstance(digest, OSError):
            unreadable[path] = f"cannot read {path}: {digest.strerror or digest}"
        else:
            known[path] = digest
    files = {}
    for clip in corpus.clips:
        paths = sources(clip, needs)
        if reasons := [unreadable[path] for path in dict.fromkeys(paths) if path in unreadable]:
            wrong[clip.name] = "; ".join(reasons)
        else:
            files[clip.name] = file_of(folder, clip, needs, ["" if path is None else known[path] for path in paths])
    return files


def _digest(digests: Digests, path: Path) -> str | OSError:
    try:
        return digests.of(path)
    except OSError as error:
        return error


def _missing(corpus: ClipCorpus, files: dict[str, Path], bars: Progress) -> dict[Path, Clip]:
    wanted = {files[clip.name]: clip for clip in corpus.clips if clip.name in files}
    there = _each(f"checking {corpus.name}", [path for path in wanted if path.exists()], is_whole, bars)
    whole = {path for path, good in there if good}
    return {path: clip for path, clip in wanted.items() if path not in whole}


def _each(text: str, paths: list[Path], work: Callable[[Path], T], bars: Progress) -> Iterator[tuple[Path, T]]:
    with ThreadPoolExecutor(N_READERS) as pool:
        yield from zip(paths, bars.track(pool.map(work, paths), total=len(paths), description=text), strict=True)


def _jobs(missing: dict[Path, Clip], needs: Needs) -> list[prepare_jobs.Job]:
    # The clips of one file are one job: it is read once for all of them.
    jobs: dict[object, prepare_jobs.Job] = {}
    for path, clip in missing.items():
        jobs.setdefault(sources(clip, needs), {})[path] = clip
    return list(jobs.values())


def _report(corpus: ClipCorpus, wrong: dict[str, str], folder: Path, left_out: Collection[str]) -> None:
    if not wrong:
        return
    path = folder / f"{corpus.name}-bad-clips.txt"
    # It may be the very file that was given to leave clips out: those stay in it.
    lines = [f"{name}\tleft out before" for name in sorted(set(left_out) - wrong.keys())]
    lines += [f"{name}\t{' '.join(wrong[name].split())}" for name in sorted(wrong)]
    path.write_text("\n".join([f"# {len(lines)} clips of {corpus.name}", *lines]) + "\n", encoding="utf-8")
    first = "; ".join(f"{name} ({wrong[name]})" for name in sorted(wrong)[:5])
    raise CorpusError(
        f"{len(wrong)} of {len(corpus.clips)} clips of {corpus.name} cannot be used: {first}"
        f"{' ...' if len(wrong) > 5 else ''}; {path} lists all. Repair them, or leave them out on purpose: that file, "
        "or lines of it, can be given to --leave-out"
    )
