"""What stands beside the rows of a dataset: a manifest for programs, a card for people.

Why: rows without their provenance cannot be trusted, compared or licensed. Both are made from the
rows and the store alone, without a date or a path, so that the same store gives the same bytes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.prompting import template_hashes
from mentalarena.journal import digest
from training.examples import Example, seed_template
from training.export import Row
from training.filters import Step
from training.trajectories import Run

FORMAT = 1
MANIFEST = "manifest.json"


def manifest(
    folder: Path,
    *,
    kind: str,
    asked: Mapping[str, Any],
    limits: Mapping[str, Any],
    rows: Mapping[str, Sequence[Row]],
    kept: Sequence[Example],
    funnel: Sequence[Step],
    runs: Sequence[Run],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of the files in a folder.

    Args:
        folder: Where the files are.
        kind: ``sft`` or ``preference``.
        asked: What the rows were made of: tasks, source, answers.
        limits: The filters' figures.
        rows: What was written, by split.
        kept: The rows before they were rendered.
        funnel: What each filter took.
        runs: Where the episodes come from.
        origin: The file that rows were imported from; empty for a store.
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    used = {example.trajectory.run.id for example in kept if example.trajectory}
    body = {
        "format": FORMAT,
        "kind": kind,
        **asked,
        "rows": {split: len(found) for split, found in rows.items()},
        "tasks": {split: dict(_sorted_counts(r["task"] for r in found)) for split, found
                  in rows.items()},
        "patients": {
            split: sorted({one["patient_id"] for one in found}) for split, found in rows.items()
        },
        "answered_by": dict(
            _sorted_counts(one["meta"]["answered_by"] for found in rows.values() for one in found)
        ),
        "guidance": dict(
            _sorted_counts(
                one["meta"]["guidance"] or "none" for found in rows.values() for one in found
            )
        ),
        "case_sources": dict(
            _sorted_counts(example.trajectory.case.source for example in kept
                           if example.trajectory)
        ),
        "runs": [
            {
                "id": run.id,
                "kind": run.kind,
                "config_hash": run.config_hash,
                "code_version": run.code_version,
                "seats": {s: run.config[s] for s in ("patient", "therapist", "manager", "judge")},
            }
            for run in runs
            if run.id in used
        ],
        "origin": dict(origin),
        "templates": {**template_hashes(), seed_template().name: seed_template().hash},
        "filters": dict(limits),
        "funnel": [step._asdict() for step in funnel],
        "files": files,
    }  # fmt: skip
    return {"id": digest(body, 24), **body}


def _sorted_counts(values: Any) -> list[tuple[str, int]]:
    return sorted(Counter(values).items())


def card(facts: Mapping[str, Any]) -> str:
    """The card of a dataset, in Markdown, with the front matter that dataset hubs read."""
    rows = facts["rows"]
    where = "episodes of a store" if facts["runs"] else "an imported file"
    licence = (
        "Built-in cases and rule-based answers: Apache-2.0, as the project. Imported cases and "
        "imported rows: whatever their authors allow. Answers of a model: the terms of that model "
        "and of its provider. Nothing here grants more than these do."
    )
    parts = [
        "---\nlanguage: en\ntags: [simulated, mental-health, research-only]\n---",
        "# A MentalArena dataset",
        "Research only, never clinical advice. Nobody in it is real: patients are invented, and "
        "what is said is said by programs.",
        f"Kind `{facts['kind']}`; id `{facts['id']}`; {rows['train']} rows to train on, "
        f"{rows['dev']} for development; made from {where}. Prompts are those by which seats are "
        f"asked, for a model whose answers are `{facts['answers']}`.",
        "## Rows",
        _table(
            ("task", "train", "dev"),
            [
                (f"`{task}`", facts["tasks"]["train"].get(task, 0),
                 facts["tasks"]["dev"].get(task, 0))
                for task in sorted({*facts["tasks"]["train"], *facts["tasks"]["dev"]})
            ],
        ),
        "## Provenance",
        _provenance(facts),
        "## Funnel",
        _table(
            ("filter", "dropped", "left", "why"),
            [(s["filter"], s["dropped"], s["left"], s["why"]) for s in facts["funnel"]],
        ),
        "## Licence",
        licence,
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(facts)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _provenance(facts: Mapping[str, Any]) -> str:
    lines = [f"- Answered by `{by}`: {n} rows." for by, n in facts["answered_by"].items()]
    lines += [f"- Cases from `{source}`: {n} rows." for source, n in facts["case_sources"].items()]
    lines += [
        f"- Run `{run['id']}` ({run['kind']}, configuration `{run['config_hash'][:12]}`): "
        + ", ".join(f"{seat} `{spec}`" for seat, spec in run["seats"].items())
        + "."
        for run in facts["runs"]
    ]
    if facts["origin"]:
        lines.append(
            f"- Imported from `{facts['origin']['file']}` (SHA-256 "
            f"`{facts['origin']['sha256'][:12]}…`): {facts['origin']['lines']} lines, "
            f"{facts['origin']['unreadable']} of them unreadable."
        )
    return "\n".join(lines)


def _limits(facts: Mapping[str, Any]) -> list[str]:
    found = [
        "A dialogue with an invented patient is not a dialogue with a person, and no row was "
        "written or checked by a clinician.",
        "Diagnoses are what a simulated patient agreed to, mapped to codes by name.",
        "Scores come from a judge seat; whether it agrees with clinicians was not measured.",
        "The crisis screen is a word list and misses much: a kept row may still speak of a crisis.",
    ]
    if facts["filters"]["include_crisis"]:
        found.append("Episodes in which the crisis screen found something are **in**, as asked.")
    if not facts["filters"]["evaluation_overlap"]:
        found.append("Overlap with evaluation sets was **not looked for**.")
    if facts["source"] == "record":
        found.append("An ablation: therapist rows hold the **hidden record**, or teach it.")
    if facts["guidance"].get("oracle"):
        found.append("Some episodes were guided with the record (`oracle`); their rows say so.")
    if facts["rows"]["dev"] == 0:
        found.append("No row for development: nothing can be stopped or chosen by it.")
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in r) + " |" for r in rows]
    return "\n".join(lines)


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest: the last file of a dataset, and the mark that it is whole."""
    text = json.dumps(facts, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
