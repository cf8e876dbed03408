"""The people, from the command line: ``mentalarena cases``.

Why: who is played decides what a run can show. Here people are looked at, checked, brought in from
elsewhere and taken out again; what makes new ones and what measures sets of them is in
:mod:`graphs.case_sets`. The commands live in this package because a check needs the rule tables of
``agents``, and what ``mentalarena`` does not know must not be imported there.

Run it: ``mentalarena cases list``.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphs import case_sets
from graphs.options import option
from mentalarena.errors import CaseError
from mentalarena.text import clean

if TYPE_CHECKING:
    from mentalarena.case import Case, Patient
    from mentalarena.import_report import Report

json_option = option("--json", "as_json", is_flag=True, help="Print JSON.")
out_option = option("--out", default="", metavar="FILE", help="Where to write.")


@click.group()
def cases() -> None:
    """List, check, import, make and compare patients.

    Wherever a case FILE can be named, the built-in patients are taken without one.
    """


for command in case_sets.COMMANDS:
    cases.add_command(command)


def people(path: str) -> "tuple[Patient, ...]":
    """The patients of a case file, all of which have to be good, or the built-in ones.

    Raises:
        CaseError: a record of the file cannot be used.
    """
    from mentalarena.roster import builtin_patients, read_patient_file

    if not path:
        return builtin_patients()
    found = read_patient_file(path)
    if found.complaints:
        more = len(found.complaints) - 1
        raise CaseError(
            f"{found.complaints[0]}{f' (and {more} more)' if more else ''}: mend it, or leave it "
            f"behind with `mentalarena cases import {shlex.quote(path)} --format jsonl`"
        )
    return found.patients


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text, each column as wide as it needs to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


@cases.command("list")
@click.argument("file", default="", metavar="[FILE]")
@json_option
def list_(file: str, as_json: bool) -> None:
    """List patients: who they are, which split they are in, and where they come from."""
    found = people(file)
    if as_json:
        keys = ("id", "name", "split", "source", "synthetic", "parents", "varied", "presentation",
                "style", "demographics", "reference")  # fmt: skip
        rows = []
        for patient in found:
            plain = patient.model_dump(mode="json")
            row = {key: plain[key] for key in keys}
            rows.append({**row, "cases": [situation.id for situation in patient.situations]})
        click.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    table = [["case", "split", "presentation", "style", "age", "gender", "reference", "source"]]
    for patient in found:
        who = patient.demographics
        for situation in patient.situations:
            codes = " ".join(reference.code for reference in patient.reference)
            made = f" of {', '.join(patient.parents)}" if patient.parents else ""
            varied = f" ({patient.varied} varied)" if patient.varied else ""
            cells = (situation.id, patient.split, patient.presentation, patient.style.value,
                     str(who.age or "?"), who.gender, codes or "none",
                     patient.source + made + varied)  # fmt: skip
            table.append([clean(" ".join(cell.split())) for cell in cells])
    click.echo(columns(table))
    click.echo(f"{len(found)} patients, {sum(len(one.situations) for one in found)} cases")


@cases.command()
@click.argument("case_id", metavar="CASE")
@option("--cases", "file", default="", metavar="FILE", help="Case file to look in.")
@json_option
def show(case_id: str, file: str, as_json: bool) -> None:
    """Show one case whole: the hidden record, and what the patient says for it."""
    from mentalarena.roster import find_case

    found = find_case(case_id, [case for patient in people(file) for case in patient.cases()])
    if as_json:
        click.echo(found.model_dump_json(indent=1))
        return
    click.echo(clean("\n".join(_described(found))))


def _described(case: "Case") -> list[str]:
    from mentalarena.case import COMPONENTS, Component

    who = case.demographics
    lines = [
        f"{case.name} ({case.id}, patient {case.patient_id}, {case.split})",
        f"  {case.presentation}, {case.style.value}; "
        + "; ".join(f"{one.code} {one.label}" for one in case.reference),
        f"  {who.age if who.age is not None else 'age unknown'}, {who.gender}; {who.culture}; "
        f"{who.languages}",
        f"  {who.work}; {who.family}",
    ]
    if case.parents:
        lines.append(f"  made from {', '.join(case.parents)}"
                     + (f", {case.varied} varied" if case.varied else ""))  # fmt: skip
    parts: list[tuple[str, Any]] = [("history", case.history), ("situation", case.situation)]
    parts += [
        (component.label, case.cognitive_model.clauses(component))
        for component in COMPONENTS
        if component is not Component.BEHAVIOR_PRINCIPLES
    ]
    lines += ["", "openings", *(f'      "{line}"' for line in case.openings)]
    for name, clauses in parts:
        lines += ["", name]
        for clause in clauses:
            lines.append(f"  - {clause.text}")
            lines += [f'      "{line}"' for line in clause.utterances]
    lines += ["", "strengths", *(f"  - {text}" for text in case.strengths)]
    treated = [f"  - {past.name} ({past.outcome})" for past in case.past_treatments]
    return [*lines, "", "treatment so far", *(treated or ["  none"])]


@cases.command()
@click.argument("file", default="", metavar="[FILE]")
@option("--case", "case_id", default=None, metavar="ID", help="Check one case only.")
@option("--verbose", is_flag=True, help="Show every figure, of good cases too.")
@json_option
def check(file: str, case_id: str | None, verbose: bool, as_json: bool) -> int:
    """Run the twelve quality checks; exit code 1 when one of them finds something."""
    from agents.rules.diagnosis import ranked_labels
    from mentalarena.builtin_vectors import builtin_signatures
    from mentalarena.case_checks import CHECKS, WHAT, check_cases
    from mentalarena.roster import builtin_cases, find_case
    from mentalarena.similarity import SentenceEncoder

    chosen = [case for patient in people(file) for case in patient.cases()]
    among = [*builtin_cases().values(), *chosen]
    if case_id is not None:
        chosen = [find_case(case_id, chosen)]
    found = check_cases(chosen, SentenceEncoder(), ranked_labels, among, builtin_signatures())
    failed = {name: sum(bool(one.problems) for results in found.values() for one in results
                        if one.check == name) for name in CHECKS}  # fmt: skip
    if as_json:
        plain = {
            case: [{**one._asdict(), "passed": not one.problems} for one in results]
            for case, results in found.items()
        }
        click.echo(json.dumps({"cases": plain, "failed": failed}, ensure_ascii=False, indent=1))
        return 1 if any(failed.values()) else 0
    for case, results in found.items():
        for one in results:
            if verbose or one.problems:
                state = "FAILED" if one.problems else "ok"
                click.echo(clean(f"{case}  {one.check}: {state} ({one.figure})"))
            for problem in one.problems:
                click.echo(clean(f"    {problem}"))
    for name, count in failed.items():
        click.echo(f"{'ok' if not count else f'{count} failed':>12}  {name}: {WHAT[name]}")
    click.echo(f"{len(found)} cases, {len(CHECKS)} checks, {sum(failed.values())} failures")
    return 1 if any(failed.values()) else 0


@cases.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@option(
    "--format",
    "form",
    required=True,
    type=click.Choice(("patient-psi", "principles", "jsonl")),
    help="Patient-Psi-CM JSON; a CSV file of behavior principles; own case files.",
)
@option(
    "--out",
    default="",
    metavar="FILE",
    help="Where to write.  [default: beside FILE, with .cases.jsonl or .principles.json]",
)
@json_option
def import_(file: Path, form: str, out: str, as_json: bool) -> None:
    """Make a case file, or a file of behavior principles, of somebody else's data.

    What was dropped or changed, and why, is said for each record. FILE is left as it is.
    """
    from mentalarena.text_files import write_whole

    if form == "principles":
        from mentalarena.import_principles import import_principles

        library, report = import_principles(file)
        target = Path(out) if out else file.with_suffix(".principles.json")
        text = json.dumps(json.loads(library.text), ensure_ascii=False, indent=1) + "\n"
        made = f"{report.kept} principles in {len(library.groups)} groups"
        flag = "--principles"
    else:
        from mentalarena.roster import patient_lines

        patients, report = _imported(file, form)
        if not patients:
            first = f": {report.remarks[0]}" if report.remarks else ""
            raise CaseError(f"{file} holds no record that can be used{first}")
        target = Path(out) if out else file.with_suffix(".cases.jsonl")
        text = patient_lines(patients)
        splits = [sum(one.split == split for one in patients) for split in ("train", "dev", "test")]
        made = (
            f"{sum(len(one.situations) for one in patients)} cases of {len(patients)} patients "
            f"({splits[0]} train, {splits[1]} dev, {splits[2]} test)"
        )
        flag = "--cases"
    if target.resolve() == file.resolve():
        raise CaseError(f"--out {target} is the file that is read: name another one")
    write_whole(target, text)
    if as_json:
        click.echo(json.dumps({**report.plain(), "out": str(target)}, ensure_ascii=False))
        return
    for line in report.lines():
        click.echo(clean(line))
    click.echo(
        clean(
            f"{report.kept} of {report.records} records kept ({report.encoding}): {made}, written "
            f"to {target}"
        )
    )
    click.echo(clean(f"next: mentalarena run {flag} {shlex.quote(str(target))}"))


def _imported(file: Path, form: str) -> "tuple[Sequence[Patient], Report]":
    if form == "jsonl":
        from mentalarena.import_jsonl import import_jsonl

        return import_jsonl(file)
    from mentalarena.import_patient_psi import import_patient_psi
    from mentalarena.similarity import SentenceEncoder

    return import_patient_psi(file, SentenceEncoder())


@cases.command()
@click.argument("out", type=click.Path(path_type=Path))
@option("--cases", "file", default="", metavar="FILE", help="Case file to take them from.")
@option("--split", default=None, type=click.Choice(("train", "dev", "test")), help="Of one split.")
@option("--case", "case_id", default=None, metavar="ID", help="The patient of one case.")
def export(out: Path, file: str, split: str | None, case_id: str | None) -> None:
    """Write patients to OUT as JSON Lines, or as a JSON array when OUT ends in .json."""
    from mentalarena.roster import find_case, patient_lines
    from mentalarena.text_files import write_whole

    found = [one for one in people(file) if split in (None, one.split)]
    if case_id is not None:
        owner = find_case(case_id, [case for one in found for case in one.cases()]).patient_id
        found = [one for one in found if one.id == owner]
    if not found:
        raise CaseError(f"there is no patient of split {split} to export")
    text = patient_lines(found)
    if out.suffix.lower() == ".json":
        records = [json.loads(line) for line in text.splitlines()]
        text = json.dumps(records, ensure_ascii=False, indent=1) + "\n"
    write_whole(out, text)
    click.echo(clean(f"{len(found)} patients written to {out}"))
