"""Loading batches in worker processes; errors there come out as one line."""

import io
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from atmviz.errors import AtmvizError, DatasetError, reason_of, summarize

Collate = Callable[[Any], Any]
# Tensors below this are copied through a pipe in less time than a piece of shared memory takes to make
_LARGE_BYTES = 2**18


def stack_by_name(items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Stack items with the same names: one tensor for each name."""
    try:
        return default_collate(list(items))  # in a loading process straight into shared memory
    except (OSError, RuntimeError):  # no room in shared memory
        return {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in items[0]}


def open_loader(dataset: Dataset, workers: int, collate: Collate = stack_by_name, **options: Any) -> DataLoader:
    """Return a DataLoader that leaves torch's generator alone; its workers leave stop signals to the main process."""
    # OpenCV's threads do not survive a fork, and a forked process would wait for them forever: use none from here on.
    cv2.setNumThreads(0)
    with warnings.catch_warnings(action="ignore"):  # about more workers than cores, which were asked for
        return DataLoader(
            dataset,
            num_workers=workers,
            collate_fn=_HandOver(collate) if workers else collate,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),
            **options,
        )


def read_batches(loader: DataLoader) -> Iterator[Any]:
    """Yield the loader's batches; errors of workers that the caller can put right come out as one line.

    Raises:
        AtmvizError: raised in a worker; or a worker was killed, could not start or cannot hand over its batches.
    """
    try:
        yield from _start(loader) if loader.num_workers else loader
    except AtmvizError as error:
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        raise type(error)(str(error).split(f"\n{name}: ", 1)[-1].strip()) from None
    except (OSError, EOFError, RuntimeError) as error:
        raise (_known(error) if loader.num_workers else None) or error from None


def _known(error: Exception) -> AtmvizError | None:
    """Return an AtmvizError for an error of workers, None for a bug in the code they run."""
    if known := worker_error(error):
        return known
    if isinstance(error, OSError) and str(error).startswith("Caught "):  # in a worker, raised by what reads the data
        return DatasetError(f"cannot read the data ({str(error).strip().splitlines()[-1]}): restore it")
    if isinstance(error, OSError | EOFError) and not str(error).startswith("Caught "):  # a batch arrived in part
        try:
            time.sleep(1)  # torch learns how the worker ended, and raises that once, wherever the main process is
        except RuntimeError as ended:
            error = ended
        return worker_error(error) or _ended(type(error).__name__)
    return None


def _start(loader: DataLoader) -> Iterator[Any]:
    """Start the loader's workers; they and all their threads begin with the main process's signals blocked."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # torch's half-made iterator raises when deleted
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_MAIN)
    try:
        with warnings.catch_warnings(action="ignore"):
            return iter(loader)
    except OSError as error:
        known, reason = worker_error(error), reason_of(error)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sys.unraisablehook = hook
    raise known or AtmvizError(
        f"cannot start processes that load images ({reason}): make /dev/shm larger (shm-size in Docker) and allow more "
        "processes (ulimit -u), or set workers to 0"
    )


def worker_error(error: Exception) -> AtmvizError | None:
    """Return an AtmvizError for what ends workers, which torch raises wherever the main process is; else None."""
    text = str(error)
    if "Too many open files" in text:
        return AtmvizError("too few files may be open at once: raise the limit (ulimit -n), or set workers to 0")
    if "DataLoader worker (pid" in text or "Pin memory thread" in text:
        return _ended(summarize(error).strip().rstrip("."))
    return None


def _ended(reason: str) -> AtmvizError:
    return AtmvizError(
        f"a process that loads images was killed from outside ({reason}), as happens where memory is short: "
        "use fewer workers, or 0"
    )


# Ctrl-C and schedulers signal all processes of a run: the main one saves, and ends the workers. Where a worker can tell
# who sent SIGTERM, it obeys its parent alone.
_CAN_TELL = hasattr(signal, "sigtimedwait")
_LEFT_TO_MAIN = [signal.SIGINT, signal.SIGHUP, *([signal.SIGTERM] if _CAN_TELL else [])]


def _start_worker(worker: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_MAIN)  # where it was not inherited
    if _CAN_TELL:
        threading.Thread(target=_follow_parent, args=(os.getppid(),), daemon=True).start()


def _follow_parent(parent: int) -> None:
    """End this process when its parent asks for it or has ended."""
    while True:
        heard = signal.sigtimedwait([signal.SIGTERM], 1)
        if os.getppid() != parent or (heard and heard.si_pid == parent):
            os._exit(0)


class _HandOver:
    """Collates in a worker, and pickles the batch there.

    torch pickles in a thread of the queue: an error there (shared memory is full, no file can be opened) would lose the
    batch, and the main process would wait for it forever. Here a batch that cannot be shared is copied.
    """

    def __init__(self, collate: Collate) -> None:
        self.collate = collate
        self.shared: int | None = None  # most tensors a batch shares; each is an open file in both processes

    def __call__(self, items: Any) -> "_Packed":
        batch = self.collate(items)
        if self.shared is None:
            self.shared = _max_open_files() // 16 - 16
        try:
            return _Packed(batch, self.shared)
        except (OSError, RuntimeError):
            self.shared = 0  # no room in shared memory: copy from now on
            return _Packed(batch, 0)


def _max_open_files() -> int:
    try:
        import resource
    except ImportError:  # Windows, which shares by name
        return 2**16
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**16 if limit == resource.RLIM_INFINITY else limit


class _Packed:
    """A pickled batch, with large tensors in shared memory; unpickling it gives the batch."""

    def __init__(self, batch: Any, shared: int) -> None:
        file = io.BytesIO()
        _Pickler(file, shared).dump(batch)
        self.data = file.getvalue()

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.data,)


class _Pickler(ForkingPickler):
    def __init__(self, file: io.BytesIO, shared: int) -> None:
        super().__init__(file, 5)
        self.left, self.known = shared, set[int]()

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not Tensor:
            return NotImplemented
        storage = obj.untyped_storage()
        if storage.data_ptr() in self.known:
            return NotImplemented
        if storage.nbytes() < _LARGE_BYTES or self.left <= 0:
            return torch.from_numpy, (obj.numpy(),)
        self.left -= 1
        self.known.add(storage.data_ptr())
        return NotImplemented
