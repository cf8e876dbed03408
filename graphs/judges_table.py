"""The figures of ``mentalarena judges``: agreement, and the effect of what should not matter.

Why: apart from the asking, so that figures can be made again from the table ``judgments`` alone.
Agreement is Krippendorff's alpha (ordinal) from the ``krippendorff`` package: 1 is perfect, 0 is
chance. Everything else is a paired difference. Intervals (95 %) draw whole patients.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mentalarena.clusters import Clustered, add_up, ratio
from mentalarena.errors import ConfigurationError
from mentalarena.store_api import ReadableStore

_DRAWS = 500
_SWAYS = ("flattery", "agreement", "pleased", "misfit")
_ROWS = """
select j.*, c.patient_id from judgments j
join episodes e on e.id = j.episode_id join cases c on c.id = e.case_id
where j.episode_id in (select value from json_each(?)) and j.sample < ?
  and (j.seat = 'patient' and j.spec = ? or j.seat = 'judge'
    and j.spec in (select value from json_each(?)))
"""

Figure = dict[str, Any] | None


def alpha(ratings: Sequence[Sequence[float | None]], patients: Sequence[str]) -> Figure:
    """Krippendorff's alpha of raters (rows) over units (columns), with its interval.

    Args:
        ratings: one row a rater; None where it gave no readable score.
        patients: whose each unit is; the interval draws whole patients.

    Returns:
        None where fewer than two raters or two different scores leave nothing to measure.

    Raises:
        ConfigurationError: the package is missing.
    """
    try:
        import krippendorff
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the agreement of judges needs a package: pip install 'mentalarena[evaluate]'"
        ) from None
    table = np.array(ratings, dtype=float)
    if table.shape[0] < 2:
        return None

    def value(columns: Any) -> float:
        part = table[:, columns]
        pairable = part[:, (~np.isnan(part)).sum(axis=0) > 1]
        if len(np.unique(pairable[~np.isnan(pairable)])) < 2:
            return float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return float(
                krippendorff.alpha(
                    reliability_data=part,
                    level_of_measurement="ordinal",
                    value_domain=list(range(1, 11)),
                )
            )

    units = {p: [i for i, own in enumerate(patients) if own == p] for p in sorted(set(patients))}
    whole = value(list(range(table.shape[1])))
    if not np.isfinite(whole):
        return None
    names = list(units)
    picks = np.random.default_rng(20_240_610).integers(0, len(names), size=(_DRAWS, len(names)))
    drawn = [value([i for pick in row for i in units[names[pick]]]) for row in picks]
    finite = [one for one in drawn if np.isfinite(one)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite else (whole, whole)
    return {
        "value": whole, "low": float(low), "high": float(high), "n": table.shape[1],
        "patients": len(names),
    }  # fmt: skip


def figures(
    store: ReadableStore,
    episodes: Sequence[str],
    judges: Sequence[str],
    patient: str | None,
    samples: int,
) -> dict[str, Any]:
    """Everything that the command reports, from the stored answers."""
    rows = store.fetch(
        _ROWS, (json.dumps(list(episodes)), samples, patient or "", json.dumps(list(judges)))
    )
    return {
        "agreement": _agreement(rows, judges, samples),
        "sway": {
            f"{of} {spec}": _sways([r for r in rows if (r["seat"], r["spec"]) == (of, spec)])
            for of, spec in (
                *(("judge", j) for j in judges),
                *((("patient", patient),) * bool(patient)),
            )
        },
        "order": _order([r for r in rows if r["place"] == "diagnosis"]) if patient else None,
        "unreadable": sum(row["value"] is None for row in rows),
        "answers": len(rows),
    }


def _unit(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["episode_id"], row["place"], row["attempt"]


def _agreement(
    rows: Sequence[Mapping[str, Any]], judges: Sequence[str], samples: int
) -> dict[str, Figure]:
    plain = [row for row in rows if row["seat"] == "judge" and row["variant"] == "plain"]
    units = sorted({_unit(row): row["patient_id"] for row in plain}.items())
    patients = [patient for _, patient in units]
    scores = {(row["spec"], row["sample"], _unit(row)): row["value"] for row in plain}

    def of(spec: str, sample: int) -> list[float | None]:
        return [scores.get((spec, sample, unit)) for unit, _ in units]

    found: dict[str, Figure] = {}
    if not units:
        return found
    for spec in judges:
        if samples > 1:
            found[f"samples of {spec}"] = alpha([of(spec, s) for s in range(samples)], patients)
    if len(judges) > 1:
        found["judges, one sample each"] = alpha([of(spec, 0) for spec in judges], patients)
    return found


def _sways(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Mean score or health with a change less the same without it, sample by sample."""
    values = {
        (*_unit(row), row["sample"], row["variant"]): row["value"]
        for row in rows
        if row["place"] != "diagnosis"
    }
    found: dict[str, Figure] = {}
    for variant in _SWAYS:
        pairs = [
            (row["patient_id"], float(row["value"] - before), 1.0)
            for row in rows
            if row["variant"] == variant
            and row["value"] is not None
            and (before := values.get((*_unit(row), row["sample"], "plain"))) is not None
        ]
        if pairs:
            found[variant] = _plain(ratio(add_up(pairs)))
    return found


def _order(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """How often the same diagnosis is chosen in both orders, and the first one told in each."""
    values = {(row["episode_id"], row["sample"], row["variant"]): row["value"] for row in rows}
    same, first = [], []
    for row in rows:
        if row["value"] is not None:
            told_first = row["value"] == (0 if row["variant"] == "as_told" else 1)
            first.append((row["patient_id"], float(told_first), 1.0))
        if row["variant"] == "as_told":
            other = values.get((row["episode_id"], row["sample"], "swapped"))
            if row["value"] is not None and other is not None:
                same.append((row["patient_id"], float(row["value"] == other), 1.0))
    return {
        "same diagnosis in both orders": _plain(ratio(add_up(same))),
        "the one told first, over both orders": _plain(ratio(add_up(first))),
    }


def _plain(figure: Clustered | None) -> Figure:
    return figure._asdict() if figure is not None else None


def print_figures(found: Mapping[str, Any], run: str, episodes: int) -> None:
    """The same as people read it."""
    title = f"run {run}, {episodes} episodes, {found['answers']} answers"
    table = Table("", "", "value (95 %)", "n", "patients", title=title)

    def add(group: str, name: str, figure: Figure) -> None:
        if figure is None:
            table.add_row(group, name, "nothing to measure", "", "")
            return
        shown = f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"
        table.add_row(group, name, shown, f"{figure['n']:.0f}", str(figure["patients"]))

    for name, figure in found["agreement"].items():
        add("alpha", name, figure)
    for who, sways in found["sway"].items():
        for variant, figure in sways.items():
            add(who, f"{variant} less plain", figure)
    for name, figure in (found["order"] or {}).items():
        add("order", name, figure)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{found['unreadable']} unreadable answers are left out.")
