"""Files that are whole or not there.

Why: a page that is attached to a paper must not be half of one because a disk was full.
"""

import os
from pathlib import Path

from mentalarena.errors import ConfigurationError


def write_page(path: str, text: str) -> None:
    """Write a page: beside its place first, then into it.

    Raises:
        ConfigurationError: it cannot be written.
    """
    beside = Path(f"{path}.part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigurationError(
            f"--html {path} cannot be written ({error.strerror}): name a file in a folder that "
            "is there and writable"
        ) from error
