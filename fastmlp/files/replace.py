"""Writing a file at once: whoever opens it finds the old content or the new, never a part."""

import os
import secrets
import stat
from contextlib import suppress

from ..checks import shape_error


def replace(path: str, content: bytes) -> None:
    """Write `content` to `path`: to a file beside it, which then takes its name.

    A link stays, and what it points to is replaced; the new file has the old one's permissions.
    Raises ValueError where path is no file, and OSError as `open` does; the old file is then whole.
    """
    target = os.path.realpath(path)
    exists = os.path.lexists(target)
    if exists and not stat.S_ISREG(os.stat(target).st_mode):
        got = "a folder" if os.path.isdir(target) else "a device, a pipe or a socket"
        raise shape_error("path", "the place of a file", f"{path}, {got}", "pass another path")
    beside = f"{target}.{secrets.token_hex(8)}.part"
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if exists:
            os.chmod(beside, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(beside, target)
    except BaseException:
        with suppress(OSError):
            os.remove(beside)
        raise
    _keep_name(os.path.dirname(target))


def _keep_name(folder: str) -> None:
    """Bring the new name of a file to the disk, too, where the system has that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
