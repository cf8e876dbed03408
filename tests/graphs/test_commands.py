"""The commands as a user meets them: what they print, store, refuse, and exit with."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.mock_server import MockServer
from graphs.play import run
from mentalarena.cli import cli, run_command
from mentalarena.roster import builtin_patients
from mentalarena.show import show
from mentalarena.store import open_store
from mentalarena.trajectory import last_episode, read_trajectory, without_volatile


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run one of the commands in an empty folder, with nothing configured."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MENTALARENA_", "OPENAI_"))]:
        monkeypatch.delenv(name)

    def call(which: Any, *args: str) -> Ended:
        with pytest.raises(SystemExit) as left:
            run_command(which, "mentalarena", list(args))
        captured = capsys.readouterr()
        return Ended(int(left.value.code or 0), captured.out, captured.err)

    return call


def one_line(ended: Ended) -> str:
    """The single line of a user error."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err + ended.out
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: ")
    return line


FILLED_BY_RULES = (
    "runs", "cases", "episodes", "turns", "formulations", "deviations", "decisions", "routes",
    "diagnoses", "plans", "scores", "injections", "embeddings", "episode_summary",
    "bias_by_component", "sft_candidates", "preference_pairs",
)  # fmt: skip

# --- what is played ------------------------------------------------------------------------------


def test_five_episodes_on_rule_based_seats_fill_every_table(command: Command) -> None:
    ended = command(run, "--episodes", "5", "--seed", "11", "--therapist", "rules,misread=0.3")
    assert ended.code == 0, ended.err
    assert "simulator" in ended.out
    assert "↺ reroute" in ended.out
    assert "mentalarena show" in " ".join(ended.out.split())
    with open_store("arena.db") as store:
        counts = {
            table: store.fetch(f"select count(*) as n from {table}")[0]["n"]
            for table in FILLED_BY_RULES
        }
        assert not [table for table, count in counts.items() if not count], counts
        assert counts["episodes"] == 5
        assert store.fetch("select distinct status from episodes") == [{"status": "ok"}]
        # Rule-based seats make no call, so nothing is journaled and nothing is charged.
        assert store.fetch("select count(*) as n from calls") == [{"n": 0}]
        rerouted = store.fetch("select count(*) as n from routes where source = 'decode' "
                               "and target = 'therapist'")  # fmt: skip
        assert rerouted[0]["n"] > 0


def test_the_same_seed_gives_the_same_trajectory_cold_and_warm(command: Command) -> None:
    def played() -> str:
        assert command(run, "--seed", "5", "--recipe", "pilot", "--quiet").code == 0
        ended = command(show, "--json")
        assert ended.code == 0
        kept = without_volatile(json.loads(ended.out))
        return json.dumps(kept, ensure_ascii=False, sort_keys=True)

    cold = played()
    with open_store("arena.db") as store:
        assert store.fetch("select count(*) as n from embeddings")[0]["n"] > 0
    assert played() == cold, "a warm cache changes nothing"
    Path("arena.db").unlink()
    assert played() == cold, "nor does a cold one"
    other = command(run, "--seed", "6", "--recipe", "pilot", "--quiet")
    assert other.code == 0
    assert json.loads(command(show, "--json").out)["turns"] != json.loads(cold)["turns"]


def test_four_models_arrive_at_the_server_by_name(command: Command) -> None:
    with MockServer(reply_words=12) as server:
        ended = command(
            run, "--base-url", server.base_url, "--recipe", "pilot", "--model", "openai:everybody",
            "--patient", "openai:pat", "--therapist", "openai:ther", "--manager", "openai:man",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        bodies = [seen.body for seen in server.requests if seen.body]
    assert {body["model"] for body in bodies} == {"pat", "ther", "man", "everybody"}
    with open_store("arena.db") as store:
        found = store.fetch("select distinct seat, model, resolved_model from calls order by seat")
        (episode,) = store.fetch("select * from episodes")
    assert [(row["seat"], row["model"], row["resolved_model"]) for row in found] == [
        ("judge", "openai:everybody", "everybody"),
        ("manager", "openai:man", "man"),
        ("patient", "openai:pat", "pat"),
        ("therapist", "openai:ther", "ther"),
    ]
    assert episode["status"] == "ok"
    assert episode["self_judged"] == 0


def test_one_model_on_every_seat_is_self_judged(command: Command) -> None:
    with MockServer(reply_words=12) as server:
        ended = command(run, "--model", "openai:all", "--base-url", server.base_url,
                        "--recipe", "pilot", "--json")  # fmt: skip
    assert ended.code == 0
    (episode,) = json.loads(ended.out)["episodes"]
    assert episode["self_judged"] == 1
    assert episode["calls"] > 10
    assert episode["tokens"] > 1000


def test_every_flag_has_an_environment_variable() -> None:
    for option in run.params:
        name = {"case_id": "case", "as_json": "json"}.get(str(option.name), str(option.name))
        assert option.envvar == f"MENTALARENA_{name.upper()}"


def test_environment_variables_are_read(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENTALARENA_CASE", "kenji-1")
    monkeypatch.setenv("MENTALARENA_RECIPE", "pilot")
    monkeypatch.setenv("MENTALARENA_JSON", "1")
    monkeypatch.setenv("MENTALARENA_DB", "elsewhere.db")
    played = json.loads(command(run).out)
    assert played["db"] == "elsewhere.db"
    assert [episode["case_id"] for episode in played["episodes"]] == ["kenji-1"]


def test_a_failed_episode_is_a_row_and_exit_1(command: Command) -> None:
    with MockServer(reply_words=12, fail={"empty": 1.0}) as server:
        ended = command(run, "--model", "openai:mute", "--base-url", server.base_url,
                        "--recipe", "pilot", "--quiet")  # fmt: skip
    assert ended.code == 1
    assert "1 of 1 episodes failed" in ended.err
    with open_store("arena.db") as store:
        played = read_trajectory(store, last_episode(store))
    assert played["episode"]["status"] == "failed"
    assert played["errors"], "why it failed is stored"
    assert all(call["failure"] for call in played["calls"])
    shown = command(show)
    assert shown.code == 0
    assert "failed" in shown.out


def test_show_finds_an_episode_by_the_beginning_of_its_id(command: Command) -> None:
    assert command(run, "--recipe", "pilot", "--quiet", "--seed", "1", "--episodes", "2").code == 0
    with open_store("arena.db") as store:
        ids = [row["id"] for row in store.fetch("select id from episodes order by started_at")]
    assert ids[1] in command(show).out
    assert ids[0] in command(show, ids[0][:9]).out
    assert "no episode 'nope'" in one_line(command(show, "nope"))
    assert "fits several episodes" in one_line(command(show, "ep-"))


def test_cases_of_a_file_are_played(command: Command) -> None:
    person = builtin_patients()[0].model_dump(mode="json") | {"id": "somebody"}
    person["situations"] = [person["situations"][0] | {"id": "somebody-1"}]
    Path("people.json").write_text(json.dumps(person), "utf-8")
    ended = command(run, "--cases", "people.json", "--recipe", "pilot", "--json", "--seed", "1")
    assert [episode["case_id"] for episode in json.loads(ended.out)["episodes"]] == ["somebody-1"]
    again = command(run, "--case", "somebody-1", "--recipe", "pilot", "--json", "--seed", "1")
    assert again.code == 0, "a stored case is found without its file"


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "opena:gpt"], "did you mean openai:gpt?"),
        (["--judge", "gpt"], "judge 'gpt' is unknown"),
        (["--judge", "rules,misread=0.2"], "judge"),
        (["--therapist", "rules,misread=2"], "misread"),
        (["--model", "openai:x"], "OPENAI_API_KEY"),
        (["--model", "huggingface:/no/such/model"], "/no/such/model"),
        (["--case", "maren_1"], "did you mean maren-1"),
        (["--recipe", "papr"], "recipe 'papr' is unknown"),
        (["--recipe", "none.toml"], "recipe file none.toml"),
        (["--guidance", "loud"], "--guidance"),
        (["--episodes", "0"], "--episodes"),
        (["--db", "no/such/folder/arena.db"], "no/such/folder"),
        (["--db", "."], "folder"),
        (["--cases", "none.json"], "case file none.json cannot be read"),
        (["--thresholds", "none.json"], "threshold file none.json cannot be read"),
        (["--wrong"], "--wrong"),
        (["--case", ""], "is empty"),
        (["--timeout", "-1"], "above 0"),
        (["--model", "openai:x", "--base-url", "http://[::1"], "base"),
        (["--model", "openai:x", "--base-url", "http://exa mple/v1"], "base"),
    ],
)
def test_user_errors_are_one_line_and_exit_2(
    command: Command, args: list[str], message: str
) -> None:
    assert message in one_line(command(run, *args))


def test_an_unreachable_server_is_named(command: Command) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    line = one_line(command(run, "--model", "openai:x", "--base-url", url))
    assert f"nothing answers at {url}" in line
    assert not Path("arena.db").exists(), "nothing was opened for nothing"


def test_a_refused_key_ends_the_run(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-value")
    with MockServer(require_key="another") as server:
        line = one_line(command(run, "--model", "openai:x", "--base-url", server.base_url))
    assert "sk-secret-value" not in line
    with open_store("arena.db") as store:
        dump = json.dumps(store.fetch("select * from errors") + store.fetch("select * from runs"))
        assert store.fetch("select status from episodes") == [{"status": "failed"}]
    assert "sk-secret-value" not in dump


def test_a_database_that_cannot_be_written(command: Command) -> None:
    Path("notes.db").write_text("this is not a database, not at all, by any means", "utf-8")
    assert "notes.db" in one_line(command(run, "--db", "notes.db"))
    assert Path("notes.db").read_text("utf-8").startswith("this is not"), "it is left alone"


def test_a_malformed_case_file_keeps_its_good_records(command: Command) -> None:
    person = builtin_patients()[0].model_dump(mode="json")
    good = person | {"id": "good", "situations": [person["situations"][0] | {"id": "good-1"}]}
    bad = good | {"id": "bad", "style": "loud"}
    text = "\n".join([json.dumps(good), json.dumps(bad)])
    Path("people.jsonl").write_text(text, "utf-8")
    line = one_line(command(run, "--cases", "people.jsonl"))
    assert "people.jsonl: record 2 (line 2, id bad), field style" in line
    assert "1 good case kept" in line
    assert command(run, "--case", "good-1", "--recipe", "pilot", "--quiet").code == 0


def test_a_changed_case_does_not_overwrite_a_stored_one(command: Command) -> None:
    person = builtin_patients()[0].model_dump(mode="json")
    person["situations"] = [person["situations"][0] | {"id": "mine-1"}]
    for name in ("First", "Second"):
        Path("people.json").write_text(json.dumps(person | {"name": name}), "utf-8")
        ended = command(run, "--cases", "people.json", "--recipe", "pilot", "--quiet")
    assert "'mine-1' differs from the one of that id" in one_line(ended)


def test_no_escape_code_reaches_the_terminal(command: Command) -> None:
    person = builtin_patients()[0].model_dump(mode="json") | {"id": "\x1b]0;own\x07\u202e"}
    Path("people.json").write_text(json.dumps(person), "utf-8")
    ended = command(run, "--cases", "people.json")
    assert ended.code == 2
    assert not set("\x1b\x07\u202e") & set(ended.err + ended.out)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"id": ' + "9" * 5000 + "}"], ids=["nested", "huge number"]
)
def test_case_files_that_break_the_parser_are_named(command: Command, text: str) -> None:
    Path("people.json").write_text(text, "utf-8")
    assert "people.json: record 1" in one_line(command(run, "--cases", "people.json"))


def test_other_line_separators_are_text(command: Command) -> None:
    person = builtin_patients()[0].model_dump(mode="json")
    person["strengths"] = ["one\u2028two\x85three"]
    Path("people.JSONL").write_text(json.dumps(person, ensure_ascii=False), "utf-8")
    ended = command(run, "--cases", "people.JSONL", "--recipe", "pilot", "--quiet")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("text", ["exchanges = " + "9" * 5000, "a = " + "[" * 100_000])
def test_recipes_that_break_the_parser_are_named(command: Command, text: str) -> None:
    Path("odd.toml").write_text(text, "utf-8")
    assert "recipe file odd.toml" in one_line(command(run, "--recipe", "odd.toml"))


def test_a_terminal_without_the_glyphs_gets_substitutes(command: Command, tmp_path: Path) -> None:
    assert command(run, "--recipe", "pilot", "--quiet").code == 0
    done = subprocess.run(
        [sys.executable, "-m", "mentalarena.cli", "show"],
        cwd=tmp_path, capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"reroute" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_output_is_one_line(command: Command, tmp_path: Path) -> None:
    assert command(run, "--recipe", "pilot", "--quiet").code == 0
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mentalarena.cli", "show"],
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "the output cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_show_without_a_store_says_what_to_do(command: Command) -> None:
    assert "play an episode first" in one_line(command(show))
    assert not Path("arena.db").exists()


def test_unknown_commands_are_one_line(command: Command) -> None:
    assert "No such command 'rnu'" in one_line(command(cli, "rnu"))


# --- processes -----------------------------------------------------------------------------------


def heed_interrupts() -> None:
    """In the child: tests started in the background inherit an ignored interrupt."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_run_exits_130_and_keeps_what_it_has(tmp_path: Path) -> None:
    with MockServer(reply_words=12, latency=0.4) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "graphs.arena", "--model", "openai:slow", "--base-url",
             server.base_url, "--db", str(tmp_path / "arena.db")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while server.stats()["requests"] < 4 and time.monotonic() < deadline:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    with open_store(tmp_path / "arena.db") as store:
        assert store.fetch("select status from episodes") == [{"status": "aborted"}]
        assert store.fetch("select count(*) as n from calls")[0]["n"] >= 2


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys\nfrom mentalarena.cli import cli\n"
        "try: cli(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'langgraph', 'transformers', 'langchain_core', 'sqlite_utils'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout
