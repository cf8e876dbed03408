"""Sets of people, from the command line: made, varied, measured.

Why: see :mod:`graphs.cases`, whose group these commands are in.

Run it: ``mentalarena cases synthesize --n 100 --out FILE``.
"""

import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from graphs.options import option
from mentalarena.case import Varied
from mentalarena.config import DEFAULT_DB, ArenaConfig
from mentalarena.errors import CaseError, ConfigurationError
from mentalarena.text import clean

if TYPE_CHECKING:
    from mentalarena.case import Patient
    from mentalarena.coherence import Lives
    from mentalarena.synthesis import Neighborhood, Synthesis

_ATTRIBUTES: tuple[Varied, ...] = get_args(Varied)

json_option = option("--json", "as_json", is_flag=True, help="Print JSON.")
cases_option = option(
    "--cases",
    "file",
    default="",
    metavar="FILE",
    help="Case file instead of the built-in people.",
)
seed_option = option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**31 - 1),
    help="The same seed and patients give the same file.",
)
out_option = option(
    "--out", required=True, type=click.Path(path_type=Path), help="Case file to write."
)


def _not_the_source(file: str, out: Path) -> None:
    if file and out.resolve() == Path(file).resolve():
        raise CaseError(f"--out {out} is the file that is read: name another one")


@click.command()
@option("--n", required=True, type=click.IntRange(1, 100_000), help="How many.")
@seed_option
@out_option
@cases_option
@option("--split", default=None, type=click.Choice(("train", "dev", "test")), help="Of one split.")
@option(
    "--model",
    default="rules",
    show_default=True,
    metavar="SPEC",
    help="Who makes them: rules recombines; a model (openai:NAME …) writes from histories.",
)
@option(
    "--base-url",
    default="",
    metavar="URL",
    help="OpenAI-compatible server of an openai: model.  [default: OPENAI_BASE_URL]",
)
@option(
    "--temperature",
    default=ArenaConfig().temperature,
    show_default=True,
    type=float,
    help="Sampling temperature of a model.",
)
@json_option
def synthesize(
    n: int,
    seed: int,
    out: Path,
    file: str,
    split: str | None,
    model: str,
    base_url: str,
    temperature: float,
    as_json: bool,
) -> int:
    """Make new patients of others; exit code 1 when there could not be as many as asked for.

    Parents are always of one split, which the new patient inherits. One that is nearer to any other
    case than the nearest two built-in cases are to each other is refused.
    """
    from graphs.cases import people
    from mentalarena.builtin_vectors import builtin_signatures
    from mentalarena.coherence import Lives
    from mentalarena.roster import builtin_cases, builtin_patients, patient_lines
    from mentalarena.similarity import SentenceEncoder
    from mentalarena.synthesis import Neighborhood
    from mentalarena.text_files import write_whole

    _not_the_source(file, out)
    everybody = people(file)
    parents = tuple(one for one in everybody if split in (None, one.split))
    lives = Lives((*everybody, *(one for one in builtin_patients() if one not in everybody)))
    built_in = tuple(builtin_cases().values())
    encoder = SentenceEncoder()
    neighborhood = Neighborhood(built_in, encoder, builtin_signatures())
    known = {case.id for case in built_in}
    for case in (case for one in parents for case in one.cases() if case.id not in known):
        neighborhood.take(case)
    progress = _Progress(n, quiet=as_json)
    if model == "rules":
        from agents.rules.diagnosis import ranked_labels
        from mentalarena.synthesis import synthesize as recombine

        made = recombine(parents, n, seed, lives, neighborhood, ranked_labels, progress)
    else:
        config = ArenaConfig(base_url=base_url, temperature=temperature)
        made = _written(model, config, parents, n, seed, lives, neighborhood, out, progress)
    progress.end()
    if not made.patients:
        raise CaseError(f"no patient could be made: {_reasons(made)}")
    write_whole(out, patient_lines(made.patients))
    whole = len(made.patients) == n
    if as_json:
        click.echo(
            json.dumps(
                {
                    "made": len(made.patients),
                    "wanted": n,
                    "likeness_limit": round(made.limit, 4),
                    "likeness_of_nearest": round(made.nearest, 4),
                    "refused": dict(made.refused),
                    "out": str(out),
                }
            )
        )
        return 0 if whole else 1
    click.echo(
        clean(
            f"{len(made.patients)} of {n} patients written to {out}; the nearest two cases of "
            f"which one is new are {made.nearest:.3f} alike, the nearest two built-in ones "
            f"{made.limit:.3f}"
        )
    )
    click.echo(f"refused: {_reasons(made)}")
    if not whole:
        click.echo("the parents give no more: ask for fewer, or bring other ones with --cases")
    click.echo(clean(f"next: mentalarena batch --cases {shlex.quote(str(out))}"))
    return 0 if whole else 1


def _reasons(made: "Synthesis") -> str:
    rows = sorted(made.refused.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {reason}" for reason, count in rows) or "none"


def _written(
    model: str,
    config: ArenaConfig,
    parents: "tuple[Patient, ...]",
    n: int,
    seed: int,
    lives: "Lives",
    neighborhood: "Neighborhood",
    out: Path,
    progress: "_Progress",
) -> "Synthesis":
    from agents.casewriter import FileJournal, journal_beside, write_cases
    from agents.registry import model_ask

    ask = model_ask("patient", model, config)
    journal = FileJournal(journal_beside(out))
    writing = write_cases(ask, model, parents, n, seed, lives, neighborhood, journal, progress)
    return asyncio.run(writing)


class _Progress:
    """A line on standard error that counts, where somebody may be looking at it."""

    def __init__(self, n: int, quiet: bool) -> None:
        self._n = n
        self._shown = sys.stderr.isatty() and not quiet

    def __call__(self, done: int) -> None:
        if self._shown:
            click.echo(f"\r{done} of {self._n}", nl=False, err=True)

    def end(self) -> None:
        if self._shown:
            click.echo("\r" + " " * 30 + "\r", nl=False, err=True)


@click.command()
@click.argument("file", default="", metavar="[FILE]")
@option("--case", "case_id", default=None, metavar="ID", help="Only the patient of this case.")
@option(
    "--vary",
    "attributes",
    required=True,
    metavar="LIST",
    help=f"What to change, one at a time: {','.join(_ATTRIBUTES)}, or several with commas.",
)
@option(
    "--to",
    default="",
    metavar="VALUE",
    help="The new value (an age, woman or man, a first name, a culture of the table), for "
    "one attribute.  [default: drawn by --seed]",
)
@seed_option
@out_option
@json_option
def vary(
    file: str,
    case_id: str | None,
    attributes: str,
    to: str,
    seed: int,
    out: Path,
    as_json: bool,
) -> None:
    """Write pairs of patients who differ in one attribute, for measurements of fairness.

    What cannot be changed consistently is left out of both members; patients of whom too little
    would be left are refused, and the reason is said.
    """
    from graphs.cases import people
    from mentalarena.counterfactual import members, pairs_and_refusals
    from mentalarena.roster import builtin_patients, find_case, patient_lines
    from mentalarena.text_files import write_whole

    _not_the_source(file, out)
    wanted = [name.strip() for name in attributes.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in _ATTRIBUTES]
    if unknown or not wanted:
        raise ConfigurationError(
            f"--vary {attributes!r}: {unknown[0] if unknown else 'nothing'} is no attribute; use "
            f"{', '.join(_ATTRIBUTES)}"
        )
    if to and len(wanted) > 1:
        raise ConfigurationError("--to is for one attribute: give one with --vary")
    everybody = people(file)
    chosen = everybody
    if case_id is not None:
        owner = find_case(case_id, [case for one in everybody for case in one.cases()]).patient_id
        chosen = tuple(one for one in everybody if one.id == owner)
    # Names are told from words by everybody's texts, not by those of one patient.
    among = (*everybody, *(one for one in builtin_patients() if one not in everybody))
    kept = tuple(name for name in _ATTRIBUTES if name in wanted)
    pairs, refusals = pairs_and_refusals(chosen, kept, seed, to, among)
    if not pairs:
        first = f": {refusals[0].patient_id}: {refusals[0].reason}" if refusals else ""
        raise CaseError(f"no pair could be made{first}")
    written = members(pairs)
    write_whole(out, patient_lines(written))
    counts = {name: sum(pair.changed.varied == name for pair in pairs) for name in kept}
    if as_json:
        plain = {
            "pairs": [
                {"attribute": pair.changed.varied, "base": pair.base.id, "changed": pair.changed.id}
                for pair in pairs
            ],
            "refused": [refusal._asdict() for refusal in refusals],
            "out": str(out),
        }
        click.echo(json.dumps(plain, ensure_ascii=False))
        return
    for refusal in refusals:
        click.echo(clean(f"refused: {refusal.patient_id}, {refusal.attribute}: {refusal.reason}"))
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    click.echo(
        clean(f"{len(pairs)} pairs ({said}) of {len(written)} patients written to {out}; "
              f"{len(refusals)} refused")
    )  # fmt: skip
    name = shlex.quote(str(out))
    click.echo(clean(f"next: mentalarena batch --cases {name}, then mentalarena cases fairness"))


@click.command()
@option("--db", default=DEFAULT_DB, show_default=True, metavar="PATH", help="Path of the store.")
@json_option
def fairness(db: str, as_json: bool) -> None:
    """Compare the episodes of counterfactual pairs: differences with intervals by person.

    With rule-based seats, which read no demographics, this is a plumbing check.
    """
    from graphs.cases import columns
    from mentalarena.fairness import LEVEL, MEASURES
    from mentalarena.fairness import fairness as compare
    from mentalarena.store_reader import open_readonly

    with open_readonly(db) as reader:
        pairs, found = compare(reader)
        seats = reader.fetch("select distinct config from runs")
    if not pairs:
        raise CaseError(
            f"{db} holds no two complete episodes of a counterfactual pair: make pairs with "
            "`mentalarena cases vary`, and play them with `mentalarena batch --cases FILE`"
        )
    beyond = [one for one in found if one.beyond]
    specs = {json.loads(row["config"]).get(seat) for row in seats
             for seat in ("patient", "therapist", "manager", "judge")}  # fmt: skip
    rules = all(str(spec).split(",")[0] == "rules" for spec in specs)
    if as_json:
        rows = [{**one._asdict(), "beyond": one.beyond} for one in found]
        click.echo(json.dumps({"pairs": pairs, "level": LEVEL, "plumbing_check": rules,
                               "differences": rows}))  # fmt: skip
        return
    table = [["attribute", "measure", "pairs", "people", "unchanged", "difference", "interval", ""]]
    for one in found:
        interval = f"{one.low:+.3f} to {one.high:+.3f}"
        cells = [one.attribute, one.measure, str(one.pairs), str(one.people), f"{one.base:.3f}",
                 f"{one.mean:+.3f}", interval, "beyond" if one.beyond else ""]  # fmt: skip
        table.append(cells)
    click.echo(columns(table))
    for name, text in MEASURES.items():
        click.echo(f"{name}: {text}")
    click.echo(
        f"{pairs} paired episodes; {len(beyond)} of {len(found)} differences beyond their interval "
        f"(together {LEVEL:.0%}, clustered by person)"
    )
    if rules:
        click.echo("rule-based seats read no demographics: this is a plumbing check, no finding")


@click.command()
@click.argument("file", default="", metavar="[FILE]")
@option("--png", default=None, type=click.Path(path_type=Path), help="Draw it into this file.")
@option("--html", default=None, type=click.Path(path_type=Path), help="As one HTML page.")
@json_option
def diversity(file: str, png: Path | None, html: Path | None, as_json: bool) -> None:
    """Say how far apart the cases of a set are, and what it holds many and few of."""
    from graphs.cases import columns, people
    from mentalarena.builtin_vectors import builtin_signatures
    from mentalarena.diversity import diversity as measure
    from mentalarena.diversity import evenness, page, plot
    from mentalarena.similarity import SentenceEncoder
    from mentalarena.text_files import write_whole

    found = measure(people(file), SentenceEncoder(), builtin_signatures())
    title = f"Diversity of {Path(file).name if file else 'the built-in patients'}"
    if png is not None:
        write_whole(png, plot(found, title))
    if html is not None:
        write_whole(html, page(found, title))
    if as_json:
        click.echo(json.dumps(found.plain(), ensure_ascii=False))
        return
    click.echo(f"{found.patients} patients, {found.cases} cases")
    for name, key in (("another patient's case", "nearest_other_patient"),
                      ("another situation of the patient", "nearest_other_situation")):  # fmt: skip
        summary = found.plain()[key]
        if summary:
            click.echo(f"distance to the nearest: {name}: least {summary['least']:.3f}, median "
                       f"{summary['median']:.3f}, most {summary['most']:.3f}")  # fmt: skip
    for one, other, distance in found.pairs:
        click.echo(clean(f"  {distance:.3f}  {one} and {other}"))
    for name, rows in found.counts.items():
        click.echo(f"\n{name} (evenness {evenness(rows):.2f})")
        click.echo(clean(columns([[f"  {count}", label] for label, count in rows.items()])))
    for path in (png, html):
        if path is not None:
            click.echo(clean(f"\nwritten to {path}"))


COMMANDS: tuple[click.Command, ...] = (synthesize, vary, fairness, diversity)
