"""Decode chunks of images in threads or in grain's worker processes, in the order asked for."""

import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing import resource_tracker
from queue import SimpleQueue
from typing import Any

from fsclip_jax.errors import UserError
from fsclip_jax.features.decode import Chunk, Decoder
from fsclip_jax.machine import cores
from fsclip_jax.pixels import hush_pillow

_BUFFER = 2  # chunks that wait at either end of a worker's queue
_MANY_IMAGES, _MANY_CORES, _MOST_THREADS = 20_000, 4, 16


def decoded(
    decoder: Decoder, chunks: Sequence[range], workers: int | None = None
) -> Generator[Chunk, None, None]:
    """Decode chunks of images where it is quickest.

    Threads start at once and are as quick as processes on few cores, for Pillow decodes and scales
    without Python's lock. What Python does between is not free of it, so on many cores processes
    are quicker, once their start, which takes seconds, is paid for. ``workers`` counts processes: 0
    takes threads, one a core; None takes a process a core where there are at least 4 cores and
    20,000 images, and threads otherwise. The chunks come in order; closing the generator stops the
    workers.

    Raises:
        UserError: there is too little shared memory for the workers asked for.
    """
    count = cores() if workers is None else workers
    widest = max(map(len, chunks), default=0)
    need = 2 * count * (2 * _BUFFER + 1) * widest * decoder.views * 3 * decoder.preprocess.size**2
    free = _shared_memory()
    if workers is None:
        many = sum(map(len, chunks)) >= _MANY_IMAGES and count >= _MANY_CORES
        count = count if many and need < free else 0
    elif need > free:
        raise UserError(
            f"--workers {workers} needs {need >> 20} MB of shared memory, and /dev/shm has "
            f"{free >> 20} MB left: make it larger, or take fewer workers, or 0 for threads"
        )
    if count:
        return in_processes(decoder, chunks, count)
    return in_threads(decoder, chunks, min(_MOST_THREADS, cores()))


def _shared_memory() -> int:
    """Return the free bytes of shared memory; plenty where they cannot be known."""
    place = "/dev/shm"
    return shutil.disk_usage(place).free if os.path.isdir(place) else 1 << 60


def in_threads(
    decoder: Decoder, chunks: Sequence[range], threads: int
) -> Generator[Chunk, None, None]:
    """Decode in threads of this process, two chunks a thread ahead of whoever takes them."""
    waiting: deque[Future[Chunk]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for rows in chunks:
            waiting.append(pool.submit(decoder, rows))
            if len(waiting) > _BUFFER * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def in_processes(
    decoder: Decoder, chunks: Sequence[range], workers: int
) -> Generator[Chunk, None, None]:
    """Decode in worker processes, which hand pixels over in shared memory.

    Raises:
        UserError: a worker was killed.
    """
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # grain reads its own, and nobody else has any here
        flags.FLAGS.mark_as_parsed()
    dataset = grain.MapDataset.source(list(chunks)).map(decoder)
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=_BUFFER)
    in_worker = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    stream = dataset.to_iter_dataset(in_worker).mp_prefetch(options, _start_worker)
    with _no_interrupts():
        started = iter(stream)
    with closing(started) as chunks_done:
        try:
            if chunks:
                yield _first(chunks_done)
            yield from chunks_done
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise UserError(
                f"a process that decodes images died ({_exit_code(str(error))}), as happens when "
                "memory runs out: run the same command again, with fewer --workers or with "
                "--workers 0; what is finished is kept"
            ) from error


def _exit_code(text: str) -> str:
    return next((f"exit code {w.rstrip('.')}" for w in text.split() if w[:1] in "-0123456789"), "")


def _first(stream: Iterator[Chunk]) -> Chunk:
    """Take the first chunk in a thread that Ctrl-C does not reach, while this one listens."""
    box: SimpleQueue[Any] = SimpleQueue()

    def take() -> None:
        with _no_interrupts():
            try:
                box.put(next(stream))
            except BaseException as error:
                box.put(error)

    threading.Thread(target=take, daemon=True).start()
    try:
        found = box.get()
    except KeyboardInterrupt:  # they would go on starting up for seconds
        for child in multiprocessing.active_children():
            if child.name.startswith("grain-process-prefetch"):
                child.kill()
        raise
    if isinstance(found, BaseException):
        raise found
    return found


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from this thread, and from the threads and processes that are started in it.

    It is for the main process alone, which then stops the workers; each of them would answer it
    with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    with _without_warnings():
        resource_tracker.ensure_running()  # it lifts the block where it has to be started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Let the tracker that is started tidy up without a word when the command was stopped."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        yield
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _start_worker(_index: int, _count: int) -> None:
    """Run in every worker before anything else."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hush_pillow()
    if "jax" in sys.modules:  # grain imports it; the accelerator is the main process's alone
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this worker when its parent was killed: it would wait for room in its queue for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
