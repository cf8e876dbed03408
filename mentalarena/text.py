"""Text that came from elsewhere, made safe to print.

Why: models, servers and case files write what is shown in a terminal or on a page; none of it may
move the cursor, set a title or turn the reading direction.
"""

import unicodedata

_UNSAFE = ("Cc", "Cf", "Cs", "Co")
"""Unicode categories: control, format (direction among them), surrogate, private use."""


class _Harmless(dict[int, int]):
    """What each character becomes, found out once a character: pages are long."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        unsafe = character not in "\n\t" and unicodedata.category(character) in _UNSAFE
        self[code] = 0xFFFD if unsafe else code
        return self[code]


_harmless = _Harmless()


def clean(text: str) -> str:
    """Text that is safe to print: control and direction characters become ``\ufffd``."""
    return text.translate(_harmless)


def clip(text: str, longest: int) -> str:
    """The beginning of a text, for a place where all of it has no room."""
    return text if len(text) <= longest else f"{text[:longest]} …"
