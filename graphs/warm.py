"""What the first episodes of a process would stop for, loaded before any of them begins.

Why: tables and patterns are read on first use, those of the crisis screen in 0.2 s. With many
episodes at once all of them would wait for that, and the server with them.
"""

from graphs.session import Session
from mentalarena import nosology, replies, safety

_HARMLESS = "Good morning."


def warm(session: Session) -> None:
    """Load what every episode needs and no model is asked for."""
    safety.screen(_HARMLESS)
    replies.screen_reply(_HARMLESS)
    nosology.map_label(_HARMLESS)
    _ = session.decoder
