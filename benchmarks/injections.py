"""What the decoder finds of the misreadings that the rule-based therapist puts in on purpose.

Why: with real formulations nobody knows what should have been found. Here every bent statement is
known, by kind and component. It is a check of the machinery: simulated statements bent by rule say
nothing about how real therapists or models go wrong. The wordings come from templates that nothing
but this check uses (``--wording usual`` plays the others, for comparison).

How to run::

    python -m benchmarks.injections --db PATH [--episodes 510] [--misread 0.4] [--seed 1] [--json]

Plays what is missing of a run in the store at PATH (a batch: it goes on where it was stopped), then
counts from its tables. ``found``: of the components bent when they were first stated so, how many
the decoder called distorted or unsupported. ``unclear`` ones are neither found nor passed.
``passed``: called aligned. ``mended``: of those bent, how many are no longer bent in the last
formulation, for found ones and for the others. False alarms: of the components that were stated and
not bent in the first round, how many were called distorted or unsupported; an honest statement of
the simulator may be wrong by itself, so some of these alarms are right. Intervals are clustered by
patient.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mentalarena.clusters import Clustered, add_up, ratio
from mentalarena.store_api import ReadableStore
from mentalarena.store_reader import open_readonly

FIGURES = ("found", "unclear", "passed", "mended when found", "mended otherwise")
_BENT = """
with bent as (
  select i.*, min(i.round) as first from injections i
  join episodes e on e.id = i.episode_id
  where e.run_id = :run and e.status = 'ok'
  group by i.episode_id, i.component
)
select c.patient_id, b.kind, v.verdict,
  not exists (
    select 1 from injections j where j.episode_id = b.episode_id and j.component = b.component
      and j.round = (select max(round) from decisions d where d.episode_id = b.episode_id)
  ) as mended
from bent b
join deviations v on v.episode_id = b.episode_id and v.component = b.component and v.round = b.first
join episodes e on e.id = b.episode_id join cases c on c.id = e.case_id
"""
_HONEST = """
select c.patient_id, v.component, v.verdict
from deviations v
join episodes e on e.id = v.episode_id join cases c on c.id = e.case_id
join formulations f using (episode_id, round, component)
where e.run_id = :run and e.status = 'ok' and v.round = 0 and f.statement <> ''
  and not exists (select 1 from injections i where i.episode_id = v.episode_id
    and i.round = v.round and i.component = v.component)
"""
_WRONG = ("distorted", "unsupported")


def play(options: argparse.Namespace) -> None:
    """Play what is missing, as a batch of its own process.

    Raises:
        SystemExit: the batch did not end well.
    """
    spec = f"rules,misread={options.misread}"
    if options.wording == "check":
        spec += ",wording=check"
    with tempfile.TemporaryDirectory() as folder:
        # Plans play no part here; the shorter the episode the more of them.
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text("max_plans = 1\njudge_samples = 1\n", "utf-8")
        command = [
            sys.executable, "-m", "mentalarena.cli", "batch", "--db", options.db, "--run",
            options.wording, "--recipe", str(recipe), "--model", "rules", "--therapist", spec,
            "--episodes", str(options.episodes), "--seed", str(options.seed), "--quiet", "--json",
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def measure(store: ReadableStore, run: str) -> dict[str, Any]:
    """Every figure of one run, by kind of misreading and by component of false alarms."""
    bent = store.fetch(_BENT, {"run": run})
    honest = store.fetch(_HONEST, {"run": run})
    kinds = sorted({row["kind"] for row in bent})
    table: dict[str, dict[str, Clustered | None]] = {}
    for kind in (*kinds, "all"):
        rows = [row for row in bent if kind in ("all", row["kind"])]

        def share(rows: Sequence[dict[str, Any]], *verdicts: str) -> Clustered | None:
            return ratio(add_up([(r["patient_id"], r["verdict"] in verdicts, 1) for r in rows]))

        def mended(rows: Sequence[dict[str, Any]]) -> Clustered | None:
            return ratio(add_up([(r["patient_id"], r["mended"], 1) for r in rows]))

        found = [row for row in rows if row["verdict"] in _WRONG]
        other = [row for row in rows if row["verdict"] not in _WRONG]
        figures = (
            share(rows, *_WRONG), share(rows, "unclear"), share(rows, "aligned"),
            mended(found), mended(other),
        )  # fmt: skip
        table[kind] = dict(zip(FIGURES, figures, strict=True))
    alarms = {
        name: ratio(
            add_up(
                [
                    (row["patient_id"], row["verdict"] in _WRONG, 1)
                    for row in honest
                    if name in ("all", row["component"])
                ]
            )
        )
        for name in (*sorted({row["component"] for row in honest}), "all")
    }
    episodes = store.fetch(
        "select count(*) as n from episodes where run_id = ? and status = 'ok'", (run,)
    )
    return {"episodes": episodes[0]["n"], "kinds": table, "false alarms": alarms}


def show(found: dict[str, Any], run: str) -> None:
    """Print the two tables."""
    console = Console(width=max(130, Console().width), highlight=False)
    title = f"Misreadings put in on purpose, wording {run}, {found['episodes']} episodes"
    table = Table("kind", "n", *FIGURES, title=title)
    for kind, figures in found["kinds"].items():
        n = "" if figures["found"] is None else f"{figures['found'].n:.0f}"
        table.add_row(kind, n, *(_shown(figures[name]) for name in FIGURES))
    console.print(table)
    table = Table("component", "n", "false alarms", title="Stated and not bent, first round")
    for component, figure in found["false alarms"].items():
        table.add_row(component, "" if figure is None else f"{figure.n:.0f}", _shown(figure))
    console.print(table)


def _shown(figure: Clustered | None) -> str:
    return "-" if figure is None else f"{figure.value:.2f} ({figure.low:.2f}-{figure.high:.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Play, count and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--db", required=True, help="path of the store to play into")
    parser.add_argument("--wording", choices=("check", "usual"), default="check")
    parser.add_argument("--episodes", type=int, default=510)
    parser.add_argument("--misread", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    play(options)
    with open_readonly(options.db) as store:
        found = measure(store, options.wording)
    if options.json:
        sys.stdout.write(json.dumps(_plain(found), indent=1) + "\n")
    else:
        show(found, options.wording)


def _plain(value: Any) -> Any:
    if isinstance(value, Clustered):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


if __name__ == "__main__":
    main()
