"""The documentation says what is so: commands run, generated parts are fresh, links lead somewhere.

A comment before each block of shell commands says how it is tested:

* ``test: offline``: run here, in one empty folder a page, in order; ``make`` targets by dry run,
  and ``make arena`` as the command that it stands for;
* ``test: server``: the same, against the mock server in place of the address in the page;
* ``test: parse``: flags and seat specs are read, nothing is run (weights or a terminal are needed);
* ``test: install``: the pip lines are those of ``make setup``.
"""

import json
import os
import re
import runpy
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from sqlite_utils import Database

from agents.registry import SEATS, SeatSpec
from agents.rules.diagnosis import ranked_labels
from agents.seats import JudgeSeat
from benchmarks.mock_server import MockServer
from docs import generate
from mentalarena.builtin_vectors import builtin_signatures
from mentalarena.case import Case
from mentalarena.case_checks import check_cases
from mentalarena.cli import COMMANDS, cli, load, run_command
from mentalarena.config import Recipe, read_recipe
from mentalarena.migrations import migrations
from mentalarena.roster import builtin_cases, builtin_patients, read_case_file
from mentalarena.schema import schema_markdown
from mentalarena.similarity import SentenceEncoder

ROOT = generate.ROOT
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
TEXTS = [*PAGES, *(ROOT / "examples").glob("*.*"), *(ROOT / "recipes").glob("*.toml")]
KINDS = ("offline", "server", "parse", "install")
MODULES = {
    f"training.{name}": f"training.{name}:{name}"
    for name in ("lora", "merged", "preference", "sycophancy")
}
"""Commands that have no name of their own under ``mentalarena``."""
DOCS_URL = "http://localhost:8000/v1"

_FENCE = re.compile(r"(?:<!-- test: (\w+) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    page: Path
    kind: str | None
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    return [
        Block(page, kind or None, language, text)
        for page in PAGES
        for kind, language, text in _FENCE.findall(page.read_text("utf-8"))
        if language in languages
    ]


SHELL = blocks("console", "bash", "sh", "shell")


def lines(kind: str, page: Path) -> list[str]:
    found = [block.text for block in SHELL if (block.kind, block.page) == (kind, page)]
    return [line for text in found for line in text.splitlines() if line.strip()]


def pages_with(kind: str) -> list[Path]:
    return sorted({block.page for block in SHELL if block.kind == kind})


def page_name(page: object) -> str:
    return page.name if isinstance(page, Path) else str(page)


# --- shell commands ------------------------------------------------------------------------------


def test_every_shell_block_says_how_it_is_tested() -> None:
    assert SHELL
    assert not [block for block in SHELL if block.kind not in KINDS]
    assert {block.kind for block in SHELL} == set(KINDS)


@pytest.fixture
def run_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Run one documented line in an empty folder that only has the examples in it."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MENTALARENA_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    for folder in ("examples", "recipes"):
        Path(folder).symlink_to(ROOT / folder)

    def run(line: str) -> str:
        program, *args = shlex.split(line)
        if program == "make":
            last = dry_run(*args)[-1]
            if args != ["arena"]:
                return last
            assert last.endswith("python -m graphs.arena")
            args = ["run"]
        else:
            assert program in ("mentalarena", ".venv/bin/mentalarena"), line
        with pytest.raises(SystemExit) as left:
            run_command(cli, "mentalarena", args)
        captured = capsys.readouterr()
        assert not left.value.code, f"{line}: {captured.err}"
        return captured.out

    return run


def dry_run(*targets: str) -> list[str]:
    """The commands that make would run."""
    # The tests may themselves run under make, which would have this one announce its folders.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "-n", *targets], cwd=ROOT, env=plain, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


@pytest.mark.parametrize("page", pages_with("offline"), ids=page_name)
def test_offline_commands_run(page: Path, run_line: Callable[[str], str]) -> None:
    for line in lines("offline", page):
        assert run_line(line).strip(), f"{line} says nothing"


@pytest.mark.parametrize("page", pages_with("server"), ids=page_name)
def test_server_commands_run(page: Path, run_line: Callable[[str], str]) -> None:
    with MockServer(reply_words=12) as server:
        for line in lines("server", page):
            assert DOCS_URL in line
            before = len(server.requests)
            run_line(line.replace(DOCS_URL, server.base_url))
            assert len(server.requests) > before, f"{line} asked the server nothing"


@pytest.mark.parametrize("page", pages_with("parse"), ids=page_name)
def test_other_commands_can_be_read(page: Path) -> None:
    for line in lines("parse", page):
        program, name, *args = shlex.split(line)
        with click.Context(cli) as parent:
            if (program, name) == ("python", "-m"):
                name, *args = args
                command: click.Command | None = load(MODULES[name])
            else:
                assert program == "mentalarena"
                command = cli.get_command(parent, name)
            assert command is not None, line
            context = command.make_context(name, args, parent=parent)
        if name == "run":
            for seat in SEATS:
                SeatSpec.parse(context.params[seat] or context.params["model"], seat)


def test_install_lines_are_those_of_make_setup() -> None:
    noise = {"--quiet", "--disable-pip-version-check", "-m", "pip"}

    def arguments(line: str) -> tuple[str, ...]:
        return tuple(word for word in shlex.split(line)[1:] if word not in noise)

    made = [arguments(line) for line in dry_run("-B", "setup") if " pip " in line]
    (page,) = pages_with("install")
    told = [arguments(line) for line in lines("install", page) if line.startswith("pip ")]
    assert told == made
    assert told


def test_commands_and_targets_named_in_passing_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        text = page.read_text("utf-8")
        assert set(re.findall(r"`make ([\w-]+)`", text)) <= targets, page
        named = set(re.findall(r"`(?:\.venv/bin/)?mentalarena ([a-z]\w*)", text))
        assert named <= set(COMMANDS), page
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(f"| `mentalarena {name}` |" in readme for name in COMMANDS)
    assert "make arena" in readme
    assert "make test" in readme


# --- generated parts -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fresh() -> dict[str, str]:
    """What the generator would write now."""
    return generate.generated()


@pytest.mark.parametrize(
    "name", [*generate.PAGES, "docs/commands.md", "docs/schema.md", "docs/reroute.svg"]
)
def test_generated_text_is_fresh(name: str, fresh: dict[str, str]) -> None:
    assert (ROOT / name).read_text("utf-8") == fresh[name], "run `make docs`"


def test_the_generator_covers_every_generated_page(fresh: dict[str, str]) -> None:
    marked = [page for page in PAGES if "<!-- generated:" in page.read_text("utf-8")]
    assert {str(page.relative_to(ROOT)) for page in marked} == set(generate.PAGES)
    assert fresh["docs/schema.md"] == schema_markdown()
    text = "".join(page.read_text("utf-8") for page in marked)
    assert set(re.findall(r"generated: ([\w-]+)", text)) == set(generate.PARTS)


def test_a_stale_or_unknown_part_is_noticed() -> None:
    part = "a\n<!-- generated: recipes -->\n{}\n<!-- end -->\nz\n"
    assert generate.filled(part.format("old")) == part.format(generate.recipes())
    with pytest.raises(KeyError):
        generate.filled(part.replace("recipes", "nothing"))


def test_the_drawing_has_every_edge_of_the_graph() -> None:
    from graphs.arena import NODES, graph

    drawn = generate.drawing()
    assert drawn.count("-->") + drawn.count(".->") == len(graph.get_graph().edges)
    assert all(f'{name}["{name}<br/>' in drawn for name in NODES)


# --- what pages refer to -------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if not re.match(r"https?://", target):
                yield page, target


def test_relative_links_resolve() -> None:
    found = list(links())
    assert len(found) > 10
    for page, target in found:
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


def test_files_named_in_passing_exist() -> None:
    folders = "mentalarena|agents|graphs|training|tests|benchmarks|docs|recipes|examples"
    for page in PAGES:
        for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text("utf-8")):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_documented_environment_variables_exist() -> None:
    known = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "MENTALARENA_CACHE"}
    folders = (ROOT / "mentalarena", ROOT / "training")
    source = "".join(path.read_text("utf-8") for it in folders for path in it.glob("*.py"))
    assert all(f'environ.get("{name}"' in source for name in known)
    flags = set()
    with click.Context(cli) as context:
        for name in COMMANDS:
            command = cli.get_command(context, name)
            assert command is not None
            below = command.commands.values() if isinstance(command, click.Group) else ()
            for one in (command, *below):
                flags |= {option.envvar for option in one.params if option.envvar}
    for page in PAGES:
        text = page.read_text("utf-8")
        named = set(re.findall(r"\b(?:MENTALARENA|OPENAI)_[A-Z][A-Z_]*[A-Z]\b", text))
        assert named <= known | flags, page
    assert flags <= set(re.findall(r"\bMENTALARENA_\w+", (ROOT / "docs/commands.md").read_text()))


def test_no_path_of_a_machine_is_written_down() -> None:
    for path in TEXTS:
        text = path.read_text("utf-8")
        found = re.search(r"(?<![\w.~/])/(?:home|root|Users|work|tmp|opt|mnt|srv)/\S*", text)
        assert found is None, f"{path.name}: {found}"


def test_the_readme_is_short_and_says_what_it_is_not() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 175
    assert "Research only, never clinical advice" in text
    assert "2410.06845" in text


def test_queries_and_code_in_the_pages_run() -> None:
    with Database(memory=True) as database:
        migrations.apply(database)
        for block in blocks("sql"):
            database.execute(block.text).fetchall()
    (judge,) = blocks("python")
    names: dict[str, object] = {}
    exec(judge.text, names)
    assert isinstance(names["EvenJudge"](), JudgeSeat)  # type: ignore[operator]


# --- examples and recipes ------------------------------------------------------------------------

EXAMPLES = ROOT / "examples" / "patients.jsonl"


def example_cases() -> tuple[Case, ...]:
    found = read_case_file(EXAMPLES)
    assert not found.complaints
    return found.cases


def test_example_patients_are_as_good_as_the_built_in_ones() -> None:
    cases = example_cases()
    among = tuple(builtin_cases().values())
    found = check_cases(cases, SentenceEncoder(), ranked_labels, among, builtin_signatures())
    assert not [one for results in found.values() for one in results if one.problems]
    for case in cases:
        assert case.id not in builtin_cases()
        assert case.patient_id not in {patient.id for patient in builtin_patients()}
        assert case.name not in {patient.name for patient in builtin_patients()}


def test_example_file_is_one_record_a_line() -> None:
    records = [json.loads(line) for line in EXAMPLES.read_text("utf-8").splitlines()]
    assert len(records) == 2


def test_the_example_script_prints_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "play_one.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert out.startswith("round 0: ")
    assert "  core_beliefs " in out
    assert "  told: " in out, "the example shows a reroute"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=page_name)
def test_recipes_can_be_read(path: Path) -> None:
    text = path.read_text("utf-8")
    assert read_recipe(str(path)) != Recipe()
    assert set(re.findall(r"^(\w+) =", text, re.MULTILINE)) == set(Recipe.__dataclass_fields__)
