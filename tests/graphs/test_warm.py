"""What is loaded before the first episode begins."""

from contextlib import closing
from pathlib import Path

from graphs.session import open_session
from graphs.warm import warm
from mentalarena import nosology, replies, safety
from mentalarena.config import ArenaConfig


def test_tables_and_patterns_are_read_before_an_episode_needs_them(tmp_path: Path) -> None:
    tables = (safety._lexicon, replies._rules, nosology._tables)
    for table in tables:
        table.cache_clear()
    with closing(open_session(ArenaConfig(db=str(tmp_path / "a.db")))) as session:
        warm(session)
        assert "decoder" in vars(session)
    assert [table.cache_info().currsize for table in tables] == [1, 1, 1]
