"""One run in a folder at a time."""

import fcntl
import os
import platform
from pathlib import Path
from typing import IO

from opd_bench.reporting.record import RecordError


def locked(folder: Path) -> IO[str]:
    """An open file that keeps others out until it and its copies in other processes are closed, however they end."""
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read() or "another process"
        file.close()
        raise RecordError(
            f"{folder} is in use by {owner}: a second run would write over its files. Wait for it, or stop it, "
            "or choose another place with results=FOLDER"
        ) from None
    except OSError:
        return file  # a file system without locks
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()
    return file
