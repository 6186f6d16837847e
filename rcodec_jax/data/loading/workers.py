"""What a worker process does when others end: its parent, or everything around it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """Ends this process once its parent is gone, however that went.

    A killed parent would leave its workers waiting for work for ever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def start_reader(index: int, count: int) -> None:
    """Starts a worker process of a loader; its arguments are grain's.

    Slurm and Ctrl-C signal every process of a run. What that means is for the parent to say, which
    still needs batches up to the step that it saves.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
