"""Worker processes that end with the process that started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from functools import cache

_EVERY_S = 0.5


@cache
def end_with_parent() -> None:
    """Let this process end when its parent ends, however that ends, with the programs it started.

    A process that is killed cannot tell its workers to stop: without this they would work on, and
    write into a folder that the next command may use.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    # An orphan gets another parent. (Linux could send a signal, but it sends it when the thread
    # that started this process ends, which may be long before.)
    while os.getppid() == parent:
        time.sleep(_EVERY_S)
    with suppress(Exception):
        import psutil

        for program in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                program.kill()
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
