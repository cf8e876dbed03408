"""What to type next, as it works from here.

Why: each command ends by naming the one after it; a newcomer has not activated the environment, and
may have named a store of their own.
"""

import os
import shlex
import shutil
import sys
from pathlib import Path

from mentalarena.config import DEFAULT_DB


def command_name() -> str:
    """How the console script is called from here."""
    if shutil.which("mentalarena"):
        return "mentalarena"
    script = Path(sys.executable).parent / "mentalarena"
    shown = os.path.relpath(script)
    return shown if len(shown) < len(str(script)) else str(script)


def with_db(db: str) -> str:
    """The flag that names the store, where it is not the default."""
    return "" if db == DEFAULT_DB else f" --db {shlex.quote(db)}"
