"""What guidance is worth: the same episodes with and without it, and with parts switched off.

Why: that a decoder finds a bias helps nobody unless the therapist, told where to look, understands
better than one who is told nothing. The arms play the same cases with the same seeds and the same
number of exchanges: ``--probes all`` uses every probe in every arm, so that no arm talks longer.
``none``, ``placebo`` (a component drawn at random), ``topic`` (a name) and ``oracle`` (the record
itself); and ``topic`` with the encoder or the decoder switched off, the ablations of the paper.

How to run::

    python -m benchmarks.guidance_arms --samples 2 --json

With the built-in seats this shows that the machinery works. It says nothing of people or language
models: a rule-based therapist does what guidance says because it was written to.

Per arm: rounds to the first aligned formulation (one more than the last round where none is),
share of episodes that were aligned by the end, components aligned in the last round (of eight),
intent biases left in it, and the largest share of the record that any guidance carried. Differences
from ``none`` are paired by case and seed, intervals come from resampling patients.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from mentalarena.figures import clustered

ROOT = Path(__file__).resolve().parent.parent
PROBES = 5
ARMS: dict[str, tuple[str, ...]] = {
    "none": ("--guidance", "none"),
    "placebo": ("--guidance", "placebo"),
    "topic": ("--guidance", "topic"),
    "oracle": ("--guidance", "oracle"),
    "topic, encoder off": ("--guidance", "topic", "--ablate", "encoder"),
    "topic, decoder off": ("--guidance", "topic", "--ablate", "decoder"),
}
OUTCOMES = {
    "rounds_to_alignment": "rounds to alignment",
    "aligned_by_end": "aligned by the end",
    "components_aligned": "components aligned at the end",
    "intent_biases": "intent biases at the end",
}
_RECIPE = "exchanges = 4\nprobe_rounds = 5\nmax_plans = 1\njudge_samples = 1\n"
_EPISODES = """
select e.id, e.case_id, e.sample, c.patient_id,
  (select min(round) from decisions d
     where d.episode_id = e.id and d.decision = 'aligned') as first,
  (select count(*) from decisions d where d.episode_id = e.id) as rounds,
  (select coalesce(max(leak), 0) from decisions d where d.episode_id = e.id) as leak,
  (select count(*) from turns t where t.episode_id = e.id and t.speaker = 'therapist'
     and t.purpose in ('exchange', 'probe')) as questions,
  (select count(*) from deviations v where v.episode_id = e.id and v.verdict = 'aligned'
     and v.round = (select max(round) from decisions d where d.episode_id = e.id)) as aligned,
  (select count(*) from deviations v where v.episode_id = e.id
     and v.verdict in ('distorted', 'unsupported')
     and v.round = (select max(round) from decisions d where d.episode_id = e.id)) as biases
from episodes e join cases c on c.id = e.case_id
where e.run_id = ? and e.status = 'ok' order by e.case_id, e.sample
"""


def play(folder: Path, arm: str, options: argparse.Namespace) -> Path:
    """Play one arm into a store of its own; the store's path."""
    recipe = folder / "arms.toml"
    recipe.write_text(_RECIPE, "utf-8")
    db = folder / f"{arm.replace(', ', '-').replace(' ', '-')}.db"
    command = [
        sys.executable, "-m", "graphs.batch", "--db", str(db), "--run", "arm", "--quiet",
        "--recipe", str(recipe), "--probes", "all", "--seed", str(options.seed),
        "--samples", str(options.samples), "--therapist", f"rules,misread={options.misread}",
        *ARMS[arm], *(word for case in options.case for word in ("--case", case)),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return db


def outcomes(db: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Per case and sample what came of an arm."""
    found = {}
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        for row in connection.execute(_EPISODES, ("arm",)):
            first = row["first"]
            found[row["case_id"], row["sample"]] = {
                "patient": row["patient_id"],
                "rounds_to_alignment": PROBES + 1 if first is None else first,
                "aligned_by_end": float(first is not None),
                "components_aligned": row["aligned"],
                "intent_biases": row["biases"],
                "leak": row["leak"],
                "questions": row["questions"],
                "rounds": row["rounds"],
            }
    return found


def compare(arms: dict[str, dict[tuple[str, int], dict[str, Any]]]) -> dict[str, Any]:
    """The table: levels, paired differences from ``none``, and topic's share of oracle's gain."""
    keys = sorted(set.intersection(*(set(rows) for rows in arms.values())))
    patients = [arms["none"][key]["patient"] for key in keys]
    values = {
        arm: {o: np.array([float(rows[key][o]) for key in keys]) for o in OUTCOMES}
        for arm, rows in arms.items()
    }
    table: dict[str, Any] = {}
    for arm, rows in arms.items():
        questions = {rows[key]["questions"] for key in keys}
        table[arm] = {
            "questions": sorted(questions),
            "leak": round(max(rows[key]["leak"] for key in keys), 4),
        }
        for outcome in OUTCOMES:
            level, base = values[arm][outcome], values["none"][outcome]
            table[arm][outcome] = clustered(_mean(level), patients)
            table[arm][outcome]["against_none"] = clustered(_mean(level - base), patients)
    shares, informed = {}, {}
    for outcome in OUTCOMES:
        base = values["none"][outcome]
        topic, oracle = (values[arm][outcome] - base for arm in ("topic", "oracle"))
        shares[outcome] = clustered(_ratio(topic, oracle), patients)
        # What the verdicts tell, apart from being told anything at all.
        difference = values["topic"][outcome] - values["placebo"][outcome]
        informed[outcome] = clustered(_mean(difference), patients)
    return {
        "episodes_per_arm": len(keys),
        "patients": len(set(patients)),
        "arms": table,
        "topic_share_of_oracle_gain": shares,
        "topic_against_placebo": informed,
    }


def _mean(values: np.ndarray[Any, Any]) -> Callable[[np.ndarray[Any, Any]], float]:
    return lambda at: float(values[at].mean())


def _ratio(
    part: np.ndarray[Any, Any], whole: np.ndarray[Any, Any]
) -> Callable[[np.ndarray[Any, Any]], float]:
    def of(at: np.ndarray[Any, Any]) -> float:
        total = float(whole[at].mean())
        # Where the oracle gains nothing there is no share of it.
        return float(part[at].mean()) / total if abs(total) > 1e-9 else float("nan")

    return of


def shown(result: dict[str, Any]) -> str:
    """The table as Markdown."""
    head = ["arm", "questions", *OUTCOMES.values(), "leak"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for arm, row in result["arms"].items():
        cells = [arm, ", ".join(map(str, row["questions"]))]
        for outcome in OUTCOMES:
            figure = row[outcome]
            cell = f"{figure['value']:.2f}"
            if arm != "none":
                low, high = figure["against_none"]["interval"]
                cell += f" ({figure['against_none']['value']:+.2f}; {low:+.2f} to {high:+.2f})"
            cells.append(cell)
        cells.append(f"{row['leak']:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    said = "; ".join(
        f"{OUTCOMES[o]} {_signed(f)}" for o, f in result["topic_against_placebo"].items()
    )
    lines += ["", f"`topic` against `placebo`, paired: {said}.", ""]
    said = "; ".join(
        f"{OUTCOMES[o]} " + ("not defined, it gains nothing" if f["value"] is None else _plain(f))
        for o, f in result["topic_share_of_oracle_gain"].items()
    )
    lines.append(f"Share of what `oracle` changes against `none` that `topic` reaches: {said}.")
    return "\n".join(lines)


def _signed(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['value']:+.2f} ({low:+.2f} to {high:+.2f})"


def _plain(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['value']:.2f} ({low:.2f} to {high:.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Play the arms, and print the table or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--samples", type=int, default=1, help="episodes of each case and arm")
    parser.add_argument("--seed", type=int, default=11, help="the same in every arm")
    parser.add_argument("--misread", default="0.2", help="rate of injected biases")
    parser.add_argument("--case", action="append", default=[], help="only this case; repeatable")
    parser.add_argument("--report", type=Path, help="write the JSON here, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        arms = {arm: outcomes(play(Path(folder), arm, options)) for arm in ARMS}
    result = compare(arms)
    if options.report:
        options.report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sys.stdout.write((json.dumps(result, indent=1) if options.json else shown(result)) + "\n")


if __name__ == "__main__":
    main()
