"""Arms that can be compared, parts switched off, and a judge as the scorer."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.guidance_arms import OUTCOMES, compare
from benchmarks.mock_server import MockServer
from graphs.play import run
from mentalarena.case import COMPONENTS
from mentalarena.store import open_store
from tests.graphs.test_commands import Command, command, one_line  # noqa: F401

RECIPE = "exchanges = 2\nprobe_rounds = 3\nmax_plans = 1\njudge_samples = 1\n"


def play(command: Command, tmp_path: Path, *flags: str) -> None:  # noqa: F811
    (tmp_path / "r.toml").write_text(RECIPE, "utf-8")
    ended = command(
        run, "--recipe", "r.toml", "--seed", "4", "--quiet", "--case", "maren-1", *flags
    )
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("guidance", ["none", "topic", "oracle"])
def test_every_arm_asks_as_many_questions(
    guidance: str,
    command: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    # With thresholds that call everything aligned, an arm would end at once.
    from mentalarena.similarity import SentenceEncoder
    from mentalarena.thresholds import read_thresholds

    values = json.loads(read_thresholds("", SentenceEncoder()).text)
    values |= {"max_intent_bias": 8, "max_missed": 8}
    (tmp_path / "lenient.json").write_text(json.dumps(values), "utf-8")
    play(command, tmp_path, "--guidance", guidance, "--probes", "all",
         "--thresholds", "lenient.json")  # fmt: skip
    with open_store("arena.db") as store:
        decisions = store.fetch("select * from decisions order by round")
        asked = store.fetch("select purpose from turns where speaker = 'therapist'")
        routes = store.fetch("select reason from routes where source = 'decode' order by step")
    assert Counter(row["purpose"] for row in asked) == {"exchange": 2, "probe": 3}
    assert [row["decision"] for row in decisions] == ["aligned"] * 4
    assert {(row["component"], row["guidance"]) for row in decisions} == {(None, "")}
    assert "a question without guidance (probe 3 of 3)" in routes[2]["reason"]


def test_the_arms_differ_in_configuration_and_default_runs_do_not_change() -> None:
    from mentalarena.config import ArenaConfig

    identities = {
        json.dumps(ArenaConfig(**flags).identity(), sort_keys=True)  # type: ignore[arg-type]
        for flags in ({}, {"probes": "all"}, {"ablate": "decoder"}, {"ablate": "encoder"})
    }
    assert len(identities) == 4


def test_without_the_decoder_verdicts_are_stored_and_not_acted_on(
    command: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    play(command, tmp_path, "--ablate", "decoder")
    with open_store("arena.db") as store:
        decisions = store.fetch("select decision, component from decisions")
        assert len(decisions) == 1
        assert decisions[0]["decision"] != "aligned"
        assert decisions[0]["component"] is None
        assert store.fetch("select count(*) as n from deviations") == [{"n": len(COMPONENTS)}]


def test_without_the_encoder_a_principle_is_drawn(
    command: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    play(command, tmp_path, "--ablate", "encoder")
    with open_store("arena.db") as store:
        (episode,) = store.fetch("select principle_id, principle_scores from episodes")
    assert episode["principle_id"]
    assert json.loads(episode["principle_scores"]) == {}


def test_a_judge_decides_and_both_opinions_are_stored(
    command: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    with MockServer(reply_words=12) as server:
        play(command, tmp_path, "--scorer", "judge", "--judge", "openai:judge",
             "--base-url", server.base_url)  # fmt: skip
        prompts = [json.dumps(seen.body) for seen in server.requests if seen.body]
    compared = [text for text in prompts if "How true is the therapist's statement" in text]
    with open_store("arena.db") as store:
        rows = store.fetch("select * from deviations")
        calls = store.fetch("select count(*) as n from calls where purpose = 'compare'")
    stated = [row for row in rows if row["verdict"] not in ("missed", "unsupported")]
    assert stated
    assert len(compared) == calls[0]["n"] == len(stated)
    for row in stated:
        assert row["scorer"] == "judge"
        assert row["score"] is not None, "the encoder's figures are recorded too"
        assert row["judge_score"] is not None
        assert row["judge_reason"]
        limit = "aligned" if row["judge_score"] >= 0.7 else "unclear"
        assert row["verdict"] == (limit if row["judge_score"] >= 0.4 else "distorted")


def test_the_rule_based_judge_cannot_compare(command: Command) -> None:  # noqa: F811
    line = one_line(command(run, "--scorer", "judge"))
    assert "scorer judge needs a model on the judge's seat" in line


def test_differences_are_paired_and_shares_are_of_the_oracles_gain() -> None:
    def arm(rounds: int, aligned: float) -> dict[tuple[str, int], dict[str, object]]:
        return {
            (f"p{n}-1", 0): {
                "patient": f"p{n}", "rounds_to_alignment": rounds + n, "aligned_by_end": aligned,
                "components_aligned": 8 - rounds, "intent_biases": 0, "leak": 0.0,
                "questions": 9, "rounds": 6,
            }
            for n in range(6)
        }  # fmt: skip

    arms = {
        "none": arm(4, 0.0), "placebo": arm(4, 0.0), "topic": arm(3, 1.0), "oracle": arm(2, 1.0),
    }  # fmt: skip
    found = compare(arms)
    assert (found["episodes_per_arm"], found["patients"]) == (6, 6)
    rounds = found["arms"]["topic"]["rounds_to_alignment"]
    assert rounds["value"] == 5.5
    # The same case and seed in both arms: what differs between patients cancels out.
    assert rounds["against_none"]["value"] == -1
    assert rounds["against_none"]["interval"] == [-1, -1]
    shares = found["topic_share_of_oracle_gain"]
    assert shares["rounds_to_alignment"]["value"] == 0.5
    assert shares["aligned_by_end"]["value"] == 1
    assert set(shares) == set(OUTCOMES)
