"""A run over many files: several at a time, their outcomes in the order of the files, and no listing in memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from metering.onramps.ingest.outcomes import FileOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from metering.onramps.ingest.choosing import Chosen

# Files that wait for a thread, for each thread.
_AHEAD = 2


def outcomes(files: Iterable[Chosen], work: Callable[[Chosen], FileOutcome], *, jobs: int) -> Iterator[FileOutcome]:
    """Do the work for each file. Files that are left out pass through.

    Args:
        files: What is to be done.
        work: Does it for one file. Several threads call it.
        jobs: Number of threads.
    """
    waiting: deque[FileOutcome | Future[FileOutcome]] = deque()
    rest = iter(files)
    pool = ThreadPoolExecutor(jobs)
    try:
        while True:
            for each in islice(rest, max(0, jobs * _AHEAD - len(waiting))):
                waiting.append(each.left_out or pool.submit(work, each))
            if not waiting:
                return
            first = waiting.popleft()
            yield first if isinstance(first, FileOutcome) else first.result()
    finally:
        pool.shutdown(cancel_futures=True)
