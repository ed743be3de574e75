"""One process at a time in a result folder. The system lets go of the lock when its process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sim.errors import InUse

HELD = (errno.EACCES, errno.EAGAIN)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder. Raises InUse at once if another process has it, or if nobody can tell.

    A file system that cannot lock is refused: two runs would write over each other without a word.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise InUse(f"{folder} is in use by {holder}. Wait for it, or give --out DIR.") from None
            raise InUse(
                f"{folder}: its file system cannot lock files ({os.strerror(error.errno or 0)}), so two runs in it "
                "could not be kept apart. Give --out DIR on a local disk."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield
