"""Text files from anywhere in, and whole ones out.

Why: people save case files in whatever their editor makes of them. What comes in is read in the
encoding that its bytes speak for, and the encoding is said; what goes out is UTF-8, and appears
under its name only when it is complete, so that nobody ever plays half a file.
"""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from mentalarena.errors import CaseError

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_SAMPLE = 4096


class Decoded(NamedTuple):
    """A file's text, and how its bytes were read."""

    text: str
    encoding: str


def read_any(path: Path) -> Decoded:
    """A text file in UTF-8, UTF-16, UTF-32 or Latin-1, with or without a byte order mark.

    Raises:
        CaseError: it cannot be read, or its bytes are none of these.
    """
    try:
        raw = path.read_bytes()
    except IsADirectoryError as error:
        raise CaseError(f"{path} is a folder: name a file in it") from error
    except OSError as error:
        raise CaseError(f"{path} cannot be read: {error.strerror}") from error
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "")
    try:
        if encoding:
            return Decoded(raw.decode(encoding), encoding)
        if wide := _unmarked_utf16(raw):
            return Decoded(raw.decode(wide), wide)
        try:
            return Decoded(raw.decode("utf-8"), "utf-8")
        except UnicodeDecodeError:
            if b"\x00" in raw:
                raise
            # Any bytes are Latin-1; Windows' superset of it has the curly quotes.
            return Decoded(raw.decode("cp1252", errors="strict"), "cp1252")
    except UnicodeDecodeError as error:
        raise CaseError(
            f"{path} is no text in {encoding or 'UTF-8, UTF-16 or Latin-1'} (byte {error.start}): "
            "save it as UTF-8"
        ) from error


def _unmarked_utf16(raw: bytes) -> str:
    """The byte order of UTF-16 without a mark: mostly English text has a zero in every pair."""
    sample = raw[:_SAMPLE]
    pairs = len(sample) // 2
    if pairs and sample[1::2].count(0) > 0.6 * pairs:
        return "utf-16-le"
    if pairs and sample[0::2].count(0) > 0.6 * pairs:
        return "utf-16-be"
    return ""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all; an old one is replaced.

    Raises:
        CaseError: it cannot be written.
    """
    raw = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
                # A temporary file is its owner's alone; this one is to be like any other.
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise CaseError(f"{path} cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
