"""How different the people of a case set are, and what it holds many and few of.

Why: a set of five hundred may be ten people fifty times. Two figures tell: how near each case's
nearest other one is (:mod:`mentalarena.likeness`), and how the set is spread over presentations,
styles and demographics. Nothing here says what a set *should* hold; it says what it does.

Run it: ``mentalarena cases diversity [FILE] --png FILE``.
"""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from mentalarena.case import Case, DisorderGroup, Patient, Style
from mentalarena.encoder_process import Vectors
from mentalarena.errors import MissingExtraError
from mentalarena.likeness import nearest_others, signatures
from mentalarena.similarity import Embedder

_AGES = (12, 20, 30, 40, 50, 60, 70, 111)
NEAREST = 5
"""Nearest pairs that are named."""


class Diversity(NamedTuple):
    """What a set of patients is like."""

    patients: int
    cases: int
    distances: tuple[float, ...]
    """Per case, 1 minus the likeness of the nearest case of another patient; sorted."""
    within: tuple[float, ...]
    """The same to the nearest other situation of the same patient, where there is one."""
    pairs: tuple[tuple[str, str, float], ...]
    """The two cases of different patients that are nearest, and so on."""
    counts: Mapping[str, Mapping[str, int]]
    """Patients by presentation, style, gender, age, split and source."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "patients": self.patients,
            "cases": self.cases,
            "nearest_other_patient": _summary(self.distances),
            "nearest_other_situation": _summary(self.within),
            "nearest_pairs": [
                {"case": one, "other": other, "distance": round(distance, 4)}
                for one, other, distance in self.pairs
            ],
            "counts": {name: dict(rows) for name, rows in self.counts.items()},
            "evenness": {name: round(evenness(rows), 3) for name, rows in self.counts.items()},
        }


def diversity(
    patients: Sequence[Patient], embedder: Embedder, known: Mapping[str, Vectors] | None = None
) -> Diversity:
    """Distances and counts of a set; ``known`` holds signatures that need not be made."""
    cases = [case for patient in patients for case in patient.cases()]
    found = signatures(cases, embedder, known)
    owners = [case.patient_id for case in cases]
    likest = nearest_others(found, owners)
    distances = [1 - likeness for index, likeness in likest if index >= 0]
    pairs = {
        tuple(sorted((cases[row].id, cases[index].id))): 1 - likeness
        for row, (index, likeness) in enumerate(likest)
        if index >= 0
    }
    nearest = sorted(pairs.items(), key=lambda item: item[1])[:NEAREST]
    return Diversity(
        len(patients),
        len(cases),
        tuple(sorted(distances)),
        _within(cases, found, owners),
        tuple((one, other, distance) for (one, other), distance in nearest),
        counts(patients),
    )


def _within(cases: Sequence[Case], found: Vectors, owners: Sequence[str]) -> tuple[float, ...]:
    """Distances between situations of one patient, a figure a case."""
    by_owner: dict[str, list[int]] = {}
    for row, owner in enumerate(owners):
        by_owner.setdefault(owner, []).append(row)
    distances = []
    for rows in by_owner.values():
        for row in rows:
            others = [float(found[row] @ found[other]) for other in rows if other != row]
            if others:
                distances.append(1 - max(others))
    return tuple(sorted(distances))


def age_band(age: int | None) -> str:
    """The ten years that an age is in."""
    if age is None:
        return "unknown"
    low, high = next((a, b) for a, b in pairwise(_AGES) if a <= age < b)
    return f"{low}-{high - 1}" if high <= 70 else "70 and above"


def counts(patients: Sequence[Patient]) -> dict[str, dict[str, int]]:
    """Patients by what they are; every presentation and style is listed, those without any too."""
    presentations = [*DisorderGroup.__args__, "subthreshold"]  # type: ignore[attr-defined]
    found = {
        "presentation": dict.fromkeys(presentations, 0),
        "style": dict.fromkeys((style.value for style in Style), 0),
        "gender": {},
        "age": {},
        "split": dict.fromkeys(("train", "dev", "test"), 0),
        "comorbid": {},
        "source": {},
    }
    for patient in sorted(patients, key=lambda one: (one.demographics.age or 0, one.id)):
        values = {
            "presentation": patient.presentation,
            "style": patient.style.value,
            "gender": patient.demographics.gender,
            "age": age_band(patient.demographics.age),
            "split": patient.split,
            "comorbid": "more than one diagnosis" if len(patient.reference) > 1 else
                        "one diagnosis or none",
            "source": patient.source,
        }  # fmt: skip
        for name, value in values.items():
            found[name][value] = found[name].get(value, 0) + 1
    return found


def evenness(rows: Mapping[str, int]) -> float:
    """Pielou's evenness of counts: 1 when all are equal, 0 when one has everything."""
    total = sum(rows.values())
    if total == 0 or len(rows) < 2:
        return 0.0
    shares = [count / total for count in rows.values() if count]
    return -sum(share * math.log(share) for share in shares) / math.log(len(rows))


def _summary(distances: Sequence[float]) -> dict[str, float] | None:
    if not distances:
        return None
    return {
        "least": round(distances[0], 4),
        "median": round(median(distances), 4),
        "most": round(distances[-1], 4),
    }


def plot(found: Diversity, title: str) -> bytes:
    """The report as a PNG picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "plots need matplotlib: pip install 'mentalarena[plots]'"
        ) from error
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    axes = figure.subplots(2, 2)
    figure.suptitle(title)
    one = axes[0][0]
    bins = [step / 25 for step in range(26)]
    one.hist(found.distances, bins=bins, color="#3b6ea5", label="of other patients")
    if found.within:
        one.hist(found.within, bins=bins, color="#d98c3f", alpha=0.7,
                 label="of the same patient")  # fmt: skip
    one.set(xlabel="distance to the nearest other case (1 - likeness)", ylabel="cases", xlim=(0, 1))
    one.legend(frameon=False, loc="upper right", title="nearest case")
    for axis, names in ((axes[0][1], ("presentation",)), (axes[1][0], ("style", "split")),
                        (axes[1][1], ("age", "gender"))):  # fmt: skip
        rows = [(f"{label}", count, name) for name in names
                for label, count in found.counts[name].items()]  # fmt: skip
        colors = ["#3b6ea5" if name == names[0] else "#8aa17b" for *_, name in rows]
        axis.barh([_short(label) for label, *_ in rows], [count for _, count, _ in rows],
                  color=colors)  # fmt: skip
        axis.invert_yaxis()
        axis.set(xlabel="patients", title=" and ".join(names))
        for place, (_, count, _) in enumerate(rows):
            axis.text(count, place, f" {count}", va="center", fontsize=8)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()


def _short(label: str, longest: int = 24) -> str:
    return label if len(label) <= longest else label[: longest - 1] + "…"


def page(found: Diversity, title: str) -> str:
    """The report as one HTML file with the picture in it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    picture = base64.b64encode(plot(found, title)).decode()
    tables = []
    for name, rows in found.counts.items():
        cells = "".join(
            f"<tr><td>{html.escape(label)}</td><td>{count}</td></tr>"
            for label, count in rows.items()
        )
        tables.append(f"<section><h2>{html.escape(name)}</h2><p>evenness {evenness(rows):.2f}</p>"
                      f"<table>{cells}</table></section>")  # fmt: skip
    pairs = "".join(
        f"<tr><td>{html.escape(one)}</td><td>{html.escape(other)}</td><td>{distance:.3f}</td></tr>"
        for one, other, distance in found.pairs
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>
body {{ font: 15px/1.5 system-ui; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
img {{ max-width: 100% }} main {{ display: flex; flex-wrap: wrap; gap: 2rem }}
td {{ padding: 0 1rem 0 0 }} td:last-child {{ text-align: right }} h2 {{ margin-bottom: 0 }}
</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{found.patients} patients, {found.cases} cases. Invented people; the counts say what the set
holds, not what anybody is like.</p>
<img alt="Nearest distances and counts, drawn from the tables below"
 src="data:image/png;base64,{picture}">
<main><section><h2>nearest cases of different patients</h2><table>{pairs}</table></section>
{"".join(tables)}</main></body></html>
"""
