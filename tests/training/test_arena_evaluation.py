"""Candidates are played on held-out patients, paired by case and seed, and counted by patient."""

import json
from pathlib import Path
from typing import Any

import pytest

from mentalarena.case import Case
from mentalarena.roster import builtin_cases, builtin_patients
from mentalarena.store import open_store
from tests.graphs.test_commands import Command, command, one_line
from training import arena_measures
from training.arena_measures import MEASURES, PRIMARY, compare, summary
from training.evaluate import evaluate

__all__ = ["command"]

SHORT = "exchanges = 2\nprobe_rounds = 0\nmax_plans = 1\njudge_samples = 1\n"


PEOPLE = ("noah", "rosalind", "samira")
"""Two built-in patients of the test split with three cases, and one of dev with two."""


def people(split: str) -> list[Case]:
    return [
        case
        for patient in builtin_patients()
        if patient.id in PEOPLE and patient.split == split
        for case in patient.cases()
    ]


def arena(command: Command, *args: str) -> Any:
    Path("short.toml").write_text(SHORT, "utf-8")
    lines = [p.model_dump_json() for p in builtin_patients() if p.id in PEOPLE]
    Path("people.jsonl").write_text("\n".join(lines), "utf-8")
    return command(evaluate, "--tasks", "arena", "--recipe", "short.toml", "--samples", "1",
                   "--cases", "people.jsonl", *args)  # fmt: skip


def test_a_candidate_is_played_counted_and_compared(command: Command) -> None:
    ended = arena(command, "--model", "rules,misread=0", "--against", "rules,misread=1", "--json")
    assert ended.code == 0, ended.err
    (found,) = json.loads(ended.out)["evaluations"]
    test_cases = people("test")
    assert found["metrics"]["episodes"] == len(test_cases)
    assert found["metrics"]["patients"] == len({case.patient_id for case in test_cases})
    with open_store("arena.db") as store:
        played = store.fetch("select case_id, run_id, seed, status from episodes")
        assert {row["case_id"] for row in played} == {case.id for case in test_cases}
        assert len(played) == 2 * len(test_cases)
        assert store.fetch("select distinct kind from runs") == [{"kind": "evaluation"}]
        rows = store.fetch("select * from arena_measures where run_id = ?", (found["run_id"],))
    against = found["against"]["measures"]
    assert against[PRIMARY]["difference"]["value"] > 0
    assert against["biases_at_0"]["difference"]["value"] < 0
    values = [row["components_at_0"] for row in rows]
    assert found["metrics"]["measures"]["components_at_0"]["value"] == pytest.approx(
        sum(values) / len(values)
    )
    # The same command again plays nothing; a stored evaluation is as good as a model.
    again = arena(command, "--model", "rules,misread=0", "--against", found["against"]["id"],
                  "--json")  # fmt: skip
    (same,) = json.loads(again.out)["evaluations"]
    assert same["against"] == found["against"]
    with open_store("arena.db") as store:
        assert store.fetch("select id from episodes order by id")
        assert len(store.fetch("select id from episodes")) == len(played)
    shown = arena(command, "--model", "rules,misread=0", "--against", "rules,misread=1")
    assert "understanding (-1 to 1)" in shown.out
    assert "patients: intervals are over patients" in " ".join(shown.out.split())


def test_the_verdicts_of_the_view_are_those_of_the_rows(command: Command) -> None:
    assert arena(command, "--model", "rules", "--split", "dev").code == 0
    with open_store("arena.db") as store:
        rows = store.fetch("select * from arena_measures")
        assert {row["split"] for row in rows} == {"dev"}
        for row in rows:
            verdicts = [v["verdict"] for v in store.fetch(
                "select verdict from deviations where episode_id = ? and round = 0",
                (row["episode_id"],),
            )]  # fmt: skip
            aligned = verdicts.count("aligned")
            bent = verdicts.count("distorted") + verdicts.count("unsupported")
            assert row["components_at_0"] == pytest.approx(aligned / 8)
            assert row["biases_at_0"] == pytest.approx(bent / 8)
            assert row["understanding_at_0"] == pytest.approx((aligned - bent) / 8)
            chosen = store.fetch(
                "select code from diagnoses where episode_id = ? and chosen", (row["episode_id"],)
            )
            reference = builtin_cases()[row["case_id"]].reference[0].code
            code = chosen[0]["code"] or ""
            assert row["diagnosis_exact"] == (code == reference)
            assert row["diagnosis_block"] == (code[:3] == reference[:3])
            assert row["valid_format"] == 1
        (first,) = store.fetch("select id from evaluations")
    # With other opponents or guidance it would be another comparison.
    ended = arena(command, "--model", "rules,misread=0.5", "--split", "dev", "--guidance", "none",
                  "--against", first["id"])  # fmt: skip
    assert "other values of guidance" in one_line(ended)


def test_the_format_counts_only_where_an_answer_was_given(tmp_path: Path) -> None:
    """An unreadable formulation is invalid, an empty one is not, one never asked for is neither."""
    from mentalarena.rows import Row

    call = {
        "attempt": 1, "step": 1, "node": "formulate", "visit": 0, "sample": 0, "seat": "therapist",
        "purpose": "formulate", "model": "m", "resolved_model": "m", "template_hash": "t",
        "prompt_hash": "p", "latency_ms": 1.0, "attempts": 1, "answer": "?",
    }  # fmt: skip
    case = next(iter(builtin_cases().values()))
    with open_store(tmp_path / "e.db") as store:
        from graphs.ledger import keep_cases

        keep_cases(store, [case])
        store.write_sync(
            [
                Row("runs", {"id": "r", "kind": "evaluation", "config": {}, "config_hash": "c",
                             "code_version": "0"}),
                Row("templates", {"hash": "t", "name": "n", "text": "x"}),
            ]
        )  # fmt: skip
        names = ("good", "mended", "unreadable", "silent", "undecoded", "unasked")
        for number, name in enumerate(names):
            store.write_sync(
                [Row("episodes", {"id": name, "run_id": "r", "case_id": case.id, "seed": 0,
                                  "case_hash": case.hash, "sample": number, "guidance": "none",
                                  "attempts": 1, "status": "ok" if number < 2 else "failed"})]
            )  # fmt: skip
            if name != "unasked":
                failure = {"good": None, "undecoded": None, "silent": "empty: no component"}.get(
                    name, "parse: no"
                )
                given = {**call, "id": name, "episode_id": name, "reask": 0, "failure": failure}
                store.write_sync([Row("calls", given)])
            if name != "unasked":
                stated = {"episode_id": name, "round": 0, "component": "emotions",
                          "statement": "" if name in ("unreadable", "silent") else "s"}  # fmt: skip
                store.write_sync([Row("formulations", stated)])
            if name not in ("undecoded", "unasked"):
                # An unreadable one is decoded as an empty one: everything is missed.
                verdict = "aligned" if name in ("good", "mended") else "missed"
                judged = {"episode_id": name, "round": 0, "component": "emotions"}
                store.write_sync([Row("deviations", {**judged, "verdict": verdict, "scorer": "s"})])
        found = {row["episode_id"]: row for row in store.fetch("select * from arena_measures")}
    assert {name: row["valid_format"] for name, row in found.items()} == {
        "good": 1, "mended": 0, "unreadable": 0, "silent": 1, "undecoded": 1,
        "unasked": None,
    }  # fmt: skip
    # Among valid outputs: the others are left out, and are no zeros.
    assert found["good"]["components_at_0"] == found["good"]["understanding_at_0"] == 1
    assert {name: row["stated_at_0"] for name, row in found.items()} == {
        "good": 1, "mended": None, "unreadable": None, "silent": 0, "undecoded": 1,
        "unasked": None,
    }  # fmt: skip
    # To state nothing is to understand nothing, and to misread nothing.
    assert found["silent"]["components_at_0"] == found["silent"]["understanding_at_0"] == 0
    for name in ("mended", "unreadable", "unasked"):
        assert found[name]["components_at_0"] is found[name]["understanding_at_0"] is None


def test_fidelity_knows_whose_record_was_spoken() -> None:
    import numpy as np

    class Letters:
        """Counts letters: enough to tell texts apart."""

        hash = "letters"

        def vectors(self, texts: Any) -> Any:
            rows = [[text.count(chr(97 + n)) + 1e-9 for n in range(26)] for text in texts]
            found = np.array(rows, dtype=np.float32)
            return found / np.linalg.norm(found, axis=1, keepdims=True)

    cases = builtin_cases()
    case = cases["walter-1"]
    spoken = [clause.text for part in case.cognitive_model for clause in part[1]]
    records = arena_measures._records(cases, Letters())
    assert arena_measures._fidelity(case.patient_id, spoken, records, Letters()) == 1.0
    other = next(one for one in cases.values() if one.patient_id != case.patient_id)
    found = arena_measures._fidelity(other.patient_id, spoken, records, Letters())
    assert found is not None
    assert found < 1.0
    assert arena_measures._fidelity(case.patient_id, [], records, Letters()) is None


# --- figures, on rows made by hand ---------------------------------------------------------------


def rows(values: dict[str, list[float | None]]) -> list[dict[str, Any]]:
    blank = dict.fromkeys(MEASURES)
    return [
        {**blank, "case_id": patient, "patient_id": patient, "sample": sample, "seed": sample,
         "status": "ok", PRIMARY: value}
        for patient, found in values.items()
        for sample, value in enumerate(found)
    ]  # fmt: skip


def test_episodes_of_a_patient_are_one_voice() -> None:
    many = summary(rows({"a": [0.1] * 50, "b": [0.5] * 50, "c": [0.9] * 50}))
    few = summary(rows({"a": [0.1], "b": [0.5], "c": [0.9]}))
    assert many["measures"][PRIMARY]["low"] == pytest.approx(few["measures"][PRIMARY]["low"])
    assert many["measures"][PRIMARY]["method"] == "t over 3 clusters"


def test_what_cannot_be_taken_is_left_out_of_both() -> None:
    one = rows({"a": [0.5, None], "b": [0.4, 0.3], "c": [0.6, 0.2]})
    two = rows({"a": [0.1, 0.1], "b": [0.1, None], "c": [0.1, 0.1]})
    found = compare(one, two)["measures"][PRIMARY]
    assert found["difference"]["n"] == 4
    assert found["difference"]["value"] == pytest.approx((0.4 + 0.3 + 0.5 + 0.1) / 4)


def test_the_better_is_named_only_where_the_interval_says_so() -> None:
    one = rows({"a": [0.5], "b": [0.6], "c": [0.55]})
    assert compare(one, rows({"a": [0.1], "b": [0.2], "c": [0.1]}))["measures"][PRIMARY][
        "verdict"
    ] == "first"  # fmt: skip
    assert compare(rows({"a": [0.1], "b": [0.2], "c": [0.1]}), one)["measures"][PRIMARY][
        "verdict"
    ] == "second"  # fmt: skip
    assert compare(one, rows({"a": [0.1], "b": [0.7], "c": [0.5]}))["measures"][PRIMARY][
        "verdict"
    ] == "open"  # fmt: skip


def test_the_measure_named_beforehand_stands_alone_and_the_others_are_corrected() -> None:
    one = rows({"a": [0.5], "b": [0.6], "c": [0.55]})
    two = rows({"a": [0.1], "b": [0.2], "c": [0.1]})
    for place, (row, other) in enumerate(zip(one, two, strict=True)):
        row |= {"components_at_0": 0.5, "biases_at_0": 0.1 * place}
        other |= {"components_at_0": 0.1 * place, "biases_at_0": 0.4}
    found = compare(one, two)["measures"]
    assert found[PRIMARY]["p_holm"] == found[PRIMARY]["p"]
    raw = sorted((found[name]["p"], name) for name in ("components_at_0", "biases_at_0"))
    assert found[raw[0][1]]["p_holm"] == pytest.approx(2 * raw[0][0])


def test_other_cases_or_seeds_are_refused() -> None:
    one = rows({"a": [0.5], "b": [0.6]})
    two = [{**row, "seed": 9} for row in one]
    with pytest.raises(ValueError, match="same cases with the same seeds"):
        compare(one, two)


# --- what is refused -----------------------------------------------------------------------------


def test_a_model_does_not_judge_itself(command: Command) -> None:
    from benchmarks.mock_server import MockServer

    with MockServer() as server:
        ended = arena(command, "--model", "openai:m", "--judge", "openai:m", "--base-url",
                      server.base_url)  # fmt: skip
    assert "would score its own plans" in one_line(ended)


def test_a_model_is_played_against_a_server(command: Command) -> None:
    """A patient under test, whose words come from a server."""
    from benchmarks.mock_server import MockServer

    with MockServer(reply_words=12) as server:
        ended = arena(command, "--model", "openai:m", "--seat", "patient", "--split", "dev",
                      "--base-url", server.base_url, "--json")  # fmt: skip
        assert ended.code == 0, ended.err
        asked = server.stats()["chat_requests"]
        again = arena(command, "--model", "openai:m", "--seat", "patient", "--split", "dev",
                      "--base-url", server.base_url, "--json")  # fmt: skip
        assert server.stats()["chat_requests"] == asked > 0
    (found,), (same,) = (json.loads(each.out)["evaluations"] for each in (ended, again))
    assert found["metrics"] == same["metrics"]
    assert found["seat"] == "patient"
    assert 0 <= found["metrics"]["measures"]["fidelity"]["value"] <= 1


def test_relevance_is_chance_for_one_question_to_all_and_high_for_a_fitting_one() -> None:
    import numpy as np

    class Words:
        """One dimension a word."""

        words = ("dog", "job", "sister", "what", "about")

        def vectors(self, texts: list[str]) -> Any:
            return np.array([[float(word in text) for word in self.words] for text in texts])

    def relevance(*asked: str) -> list[float | None]:
        said = ("my dog", "my job", "my sister")
        people = [(person, [(text, question)])
                  for person, text, question in zip("abc", said, asked, strict=True)]  # fmt: skip
        return arena_measures._relevance(people, Words())  # type: ignore[arg-type]

    assert relevance(*["what about it"] * 3) == [0.5, 0.5, 0.5]
    assert relevance("what dog", "what job", "what sister") == [1.0, 1.0, 1.0]
    # The dog's owner is asked about the job, and is fitted less well than its owner: 0 and 0.5.
    assert relevance("what job", "what job", "what sister") == [0.25, 1.0, 1.0]
    # Nobody else's turns to compare with, and nothing asked.
    assert arena_measures._relevance([("a", [("x", "y")])], Words()) == [None]  # type: ignore[arg-type]
    assert arena_measures._relevance([("a", []), ("b", [])], Words()) == [None, None]  # type: ignore[arg-type]


def test_only_a_question_right_after_an_answer_counts() -> None:
    turns = [
        {"speaker": speaker, "text": text}
        for speaker, text in (("patient", "p1"), ("therapist", "t1"), ("therapist", "t2"),
                              ("patient", "p2"), ("patient", "p3"), ("therapist", "t3"))
    ]  # fmt: skip
    assert arena_measures._exchanges(turns) == [("p1", "t1"), ("p3", "t3")]
