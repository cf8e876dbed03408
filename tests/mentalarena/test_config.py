"""Configurations and recipes: checked on construction, with the key named."""

from pathlib import Path
from typing import Any

import pytest

from mentalarena.config import RECIPES, ArenaConfig, Recipe, read_recipe
from mentalarena.errors import ConfigurationError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance": "loud"}, "guidance 'loud' is unknown: use none, topic, placebo, oracle"),
        ({"exchanges": 0}, "exchanges must be a whole number from 1 to 50"),
        ({"exchanges": "4"}, "exchanges must be a whole number"),
        ({"accept_score": 11}, "accept_score must be a number from 1 to 10"),
        ({"judge_samples": True}, "judge_samples must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"temperature": 3.0}, "temperature must be from 0 to 2"),
        ({"timeout": 0}, "timeout must be"),
        ({"judge": ""}, "judge must be a seat spec"),
    ],
)
def test_values_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ArenaConfig(**changes)


def test_the_papers_recipe() -> None:
    assert RECIPES["paper"] == Recipe(4, 5, 7, 9.0, 1)


def test_a_recipe_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text("exchanges = 2\naccept_score = 7.5\n", "utf-8")
    assert read_recipe(str(path)) == Recipe(exchanges=2, accept_score=7.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exchange = 2", "unknown key 'exchange'"),
        ("exchanges = 2.5", "exchanges must be a whole number from 1 to 50, not 2.5"),
        ("exchanges = ", "short.toml"),
    ],
)
def test_bad_recipe_files_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "short.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=message):
        read_recipe(str(path))


@pytest.mark.parametrize(("name", "message"), [("papr", "is unknown"), ("no.toml", "no.toml")])
def test_unknown_recipes(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_recipe(name)


def test_identity_is_about_the_experiment_only() -> None:
    here = ArenaConfig(db="a.db", base_url="http://x", timeout=1.0)
    there = ArenaConfig(db="b.db", base_url="http://y", timeout=2.0)
    assert here.identity() == there.identity()
    assert here.identity() != ArenaConfig(seed=1).identity()
