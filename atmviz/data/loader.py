"""Loading in other processes: batches of a dataset, and what goes wrong there as one line."""

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
    """A batch of items alike: what they have under each name, as one tensor."""
    try:
        return default_collate(list(items))  # in a loading process straight into shared memory
    except (OSError, RuntimeError):  # which may have no room
        return {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in items[0]}


def open_loader(dataset: Dataset, workers: int, collate: Collate = stack_by_name, **options: Any) -> DataLoader:
    """A DataLoader whose processes leave stop signals to the main one; it draws no number from torch's generator."""
    # OpenCV's threads are lost in a forked process, which would wait for them forever: none from here on.
    cv2.setNumThreads(0)
    with warnings.catch_warnings(action="ignore"):  # of more processes than cores: so it was asked for
        return DataLoader(
            dataset,
            num_workers=workers,
            collate_fn=_HandOver(collate) if workers else collate,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),
            **options,
        )


def read_batches(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches; what the user can mend of the errors in its processes comes out as one line.

    Raises:
        AtmvizError: as in the process, or a process was ended, could not start or cannot hand over.
    """
    try:
        yield from _start(loader) if loader.num_workers else loader
    except AtmvizError as error:
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        raise type(error)(str(error).split(f"\n{name}: ", 1)[-1].strip()) from None
    except (OSError, EOFError, RuntimeError) as error:
        raise (_known(error) if loader.num_workers else None) or error from None


def _known(error: Exception) -> AtmvizError | None:
    """The line for an error of processes that load, None for a bug in what they load."""
    if known := worker_error(error):
        return known
    if isinstance(error, OSError) and str(error).startswith("Caught "):  # in a process, by what reads the data
        return DatasetError(f"cannot read the data ({str(error).strip().splitlines()[-1]}): restore it")
    if isinstance(error, OSError | EOFError) and not str(error).startswith("Caught "):  # a batch came in part
        try:
            time.sleep(1)  # torch hears how the process ended, and raises that once, wherever the main one is
        except RuntimeError as ended:
            error = ended
        return worker_error(error) or _ended(type(error).__name__)
    return None


def _start(loader: DataLoader) -> Iterator[Any]:
    """The loader's iterator; its processes and all of their threads are born deaf to what the main one hears."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # of torch's iterator, half made, when it is deleted
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
        f"cannot start processes that load images ({reason}): make /dev/shm larger (docker run --shm-size) and allow "
        "more processes (ulimit -u), or pass --workers 0"
    )


def worker_error(error: Exception) -> AtmvizError | None:
    """The line for what ends loading processes, which torch raises wherever the main one is; None for other errors."""
    text = str(error)
    if "Too many open files" in text:
        return AtmvizError("too few files may be open at once: raise the limit (ulimit -n), or pass --workers 0")
    if "DataLoader worker (pid" in text or "Pin memory thread" in text:
        return _ended(summarize(error).strip().rstrip("."))
    return None


def _ended(reason: str) -> AtmvizError:
    return AtmvizError(
        f"a process that loads images was ended from outside ({reason}), as where memory is short: "
        "pass fewer --workers, or 0"
    )


# Ctrl-C and schedulers signal all processes of a run: the main one saves, and ends those that load. Where a process can
# tell who sent SIGTERM, that of others is none to it.
_CAN_TELL = hasattr(signal, "sigtimedwait")
_LEFT_TO_MAIN = [signal.SIGINT, signal.SIGHUP, *([signal.SIGTERM] if _CAN_TELL else [])]


def _start_worker(worker: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_MAIN)  # unless it was born so
    if _CAN_TELL:
        threading.Thread(target=_follow_parent, args=(os.getppid(),), daemon=True).start()


def _follow_parent(parent: int) -> None:
    """End this process when its parent says so or has ended."""
    while True:
        heard = signal.sigtimedwait([signal.SIGTERM], 1)
        if os.getppid() != parent or (heard and heard.si_pid == parent):
            os._exit(0)


class _HandOver:
    """Collates in a loading process, and makes the batch ready to be handed over.

    torch does the latter in a thread of the queue: an error there (shared memory is full, no file can be opened) would
    lose the batch, and the main process would wait for it for ever. Here a batch that cannot be shared is copied.
    """

    def __init__(self, collate: Collate) -> None:
        self.collate = collate
        self.shared: int | None = None  # at most this many tensors a batch; each is an open file in both processes

    def __call__(self, items: Any) -> "_Packed":
        batch = self.collate(items)
        if self.shared is None:
            self.shared = _max_open_files() // 16 - 16
        try:
            return _Packed(batch, self.shared)
        except (OSError, RuntimeError):
            self.shared = 0  # no room there: from now on all is copied
            return _Packed(batch, 0)


def _max_open_files() -> int:
    try:
        import resource
    except ImportError:  # Windows, which shares by name
        return 2**16
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**16 if limit == resource.RLIM_INFINITY else limit


class _Packed:
    """A batch as bytes, and large tensors in shared memory; unpickled, it is the batch."""

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
