"""Text that came from elsewhere, made safe to print.

Why: models, servers and case files write what is shown in a terminal; none of it may move the
cursor, set a title or turn the reading direction.
"""

import unicodedata


def clean(text: str) -> str:
    """Text that is safe to print: control and direction characters become ``\ufffd``."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co") else "\ufffd"
        for c in text
    )
