"""Threads that work in advance, and waits that can be interrupted. The threads never keep the process alive."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillWaiting
from queue import SimpleQueue
from threading import Event, Thread
from typing import Self, TypeVar

from metering.errors import OperationFailedError

T = TypeVar("T")

# Seconds until a waiting thread notices that its work was stopped.
_LOOK_S = 0.1


class StoppedError(OperationFailedError):
    """The work was stopped by a time limit or by an interrupt."""


class Stop:
    """A stop signal for all threads that do one piece of work."""

    def __init__(self) -> None:
        self._event = Event()

    def set(self) -> None:
        """Stop the work."""
        self._event.set()

    def check(self) -> None:
        """Return if the work may go on.

        Raises:
            StoppedError: It was stopped.
        """
        if self._event.is_set():
            raise StoppedError("it was stopped")


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Run work in a new thread. The thread never keeps the process alive, even if it hangs."""
    future: Future[T] = Future()
    Thread(target=_finish, args=(future, work), daemon=True, name="metering-work").start()
    return future


class Ahead:
    """Threads that run tasks before their results are requested. A task that blocks never blocks the caller.

    Mutable: the object holds the threads' queue.
    """

    def __init__(self, threads: int, stop: Stop) -> None:
        self._threads = threads
        self._stop = stop
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = Event()

    def __enter__(self) -> Self:
        for number in range(self._threads):
            Thread(target=self._work, daemon=True, name=f"metering-ahead-{number}").start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closed.set()
        for _ in range(self._threads):
            self._queue.put(None)

    def results(self, tasks: Iterable[tuple[int, Callable[[], T]]], most: int) -> Iterator[T]:
        """Results of tasks, in the order of the tasks. Tasks start until their costs total `most`.

        Raises:
            StoppedError: The work was stopped.
        """
        begun: deque[tuple[int, Future[T]]] = deque()
        cost = 0
        for each, task in tasks:
            begun.append((each, self._begin(task)))
            cost += each
            while cost >= most:
                cost -= begun[0][0]
                yield self._wait(begun.popleft()[1])
        while begun:
            yield self._wait(begun.popleft()[1])

    def _begin(self, task: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._queue.put(lambda: _finish(future, task))
        return future

    def _wait(self, future: Future[T]) -> T:
        while True:
            self._stop.check()
            try:
                return future.result(timeout=_LOOK_S)
            except StillWaiting:
                if future.done():
                    raise

    def _work(self) -> None:
        while (task := self._queue.get()) is not None and not self._closed.is_set():
            task()


def _finish(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001  # the caller that waits for the result gets it
        future.set_exception(error)
