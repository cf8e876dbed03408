"""What is decided by: each gate with its figure, its limits and its state.

Why: a loop without gates promotes its own mistakes. A gate that closes keeps the model before; one
that warns lets it pass and says so; what could not be measured is never taken for good where the
decision rests on it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from training.selfplay.recipe import Gates, Limit

State = Literal["open", "warned", "closed"]
Decision = Literal["promote", "keep", "stop"]
Figure = float | None


class Gate(NamedTuple):
    """One gate, after it was looked at."""

    name: str
    value: Figure
    state: State
    about: str
    """What was found, in words."""
    warn: float
    close: float

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict()


NOTHING_ASKED = -2.0
"""A limit of the gain below which the gate cannot close."""

_AT_LEAST = {
    "funnel_yield": "of the rows are left by the filters",
    "novelty": "as far from earlier iterations' rows as those are from each other",
    "label_entropy": "of the entropy of the patients' own diagnoses",
}
_AT_MOST = {
    "duplicates": "of otherwise good rows repeat another one",
    "safety": "of the episodes hold a harmful reply or a role flip",
    "crisis": "of the rows speak of a crisis",
    "leak": "of the record was carried by guidance",
}


def data_gates(measures: Mapping[str, Any], gates: Gates) -> list[Gate]:
    """The gates that are looked at before anything is trained."""
    rows = float(measures["rows"])
    few = Limit(warn=1.5 * gates.min_rows, close=gates.min_rows)
    found = [_gate("rows", rows, few, rows < few.close, rows < few.warn, f"{rows:.0f} rows")]
    for name, about in {**_AT_LEAST, **_AT_MOST}.items():
        value, limit = measures[name], getattr(gates, name)
        if value is None:
            # Nothing came before the first iteration, and one patient has one diagnosis.
            found.append(Gate(name, None, "open", "not to be told here", limit.warn, limit.close))
            continue
        sign = 1 if name in _AT_LEAST else -1
        shut, low = (sign * value < sign * bound for bound in (limit.close, limit.warn))
        found.append(_gate(name, value, limit, shut, low, f"{value:.3f} {about}"))
    return found


def _gate(name: str, value: float, limit: Limit, shut: bool, low: bool, about: str) -> Gate:
    state: State = "closed" if shut else "warned" if low else "open"
    return Gate(name, value, state, about, limit.warn, limit.close)


def model_gates(
    compared: Mapping[str, Any],
    summary: Mapping[str, Any],
    questions: Iterable[Mapping[str, Any]],
    gates: Gates,
) -> list[Gate]:
    """The gates of a trained model.

    Args:
        compared: Candidate against the model before, on dev patients; from
            :func:`training.arena_measures.compare`.
        summary: The candidate on dev patients; from :func:`training.arena_measures.summary`.
        questions: Candidate against the model that the loop began with, a question set each.
        gates: Their limits.
    """
    measures = compared["measures"]
    gain = _difference(measures.get(compared["primary"]))
    limit = gates.improvement
    if gain is None or gain["low"] is None:
        # Understanding is between -1 and 1: a limit below -2 asks for nothing.
        state: State = "closed" if limit.close >= NOTHING_ASKED else "warned"
        found = [Gate("improvement", None, state, "understanding on dev could not be measured",
                      limit.warn, limit.close)]  # fmt: skip
    else:
        # Equal models differ by nothing: a gain has to be above the limit, not at it.
        low = gain["low"]
        found = [_gate("improvement", low, limit, low <= limit.close, low <= limit.warn,
                       f"understanding on dev {_interval(gain)}")]  # fmt: skip
    found.append(
        _not_worse("valid_format", _difference(measures.get("valid_format")), gates.valid_format,
                   "readable answers")
    )  # fmt: skip
    found.append(_stated(summary["measures"].get("stated_at_0"), gates.stated))
    asked = [(one["task"], _difference(one.get("against"))) for one in questions]
    worst = min(
        ((task, one) for task, one in asked if one is not None and one["high"] is not None),
        key=lambda pair: pair[1]["high"],
        default=(None, None),
    )
    found.append(
        _not_worse("general", worst[1], gates.general, f"accuracy on {worst[0] or 'questions'}")
    )
    return found


def _stated(measure: Mapping[str, Any] | None, limit: Limit) -> Gate:
    about = "of the first formulations state something"
    if measure is None:
        said = f"not known how many {about}"
        return Gate("stated", None, "warned", said, limit.warn, limit.close)
    value = float(measure["value"])
    return _gate(
        "stated", value, limit, value < limit.close, value < limit.warn, f"{value:.2f} {about}"
    )


def _difference(measure: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if measure is None else measure["difference"]


def _not_worse(name: str, one: Mapping[str, Any] | None, limit: Limit, what: str) -> Gate:
    if one is None or one["high"] is None:
        return Gate(name, None, "warned", f"{what}: not measured", limit.warn, limit.close)
    high = one["high"]
    return _gate(
        name, high, limit, high < limit.close, high < limit.warn, f"{what} {_interval(one)}"
    )


def _interval(one: Mapping[str, Any]) -> str:
    return f"{one['value']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"


def decide(gates: Iterable[Gate], kept_before: int, patience: int) -> tuple[Decision, str]:
    """What becomes of an iteration, and why.

    Args:
        gates: All that were looked at.
        kept_before: Iterations in a row just before this one that promoted nothing.
        patience: How many in a row end the loop.
    """
    seen = list(gates)
    closed = [f"{gate.name}: {gate.about}" for gate in seen if gate.state == "closed"]
    if not closed:
        warned = [f"{gate.name}: {gate.about}" for gate in seen if gate.state == "warned"]
        return "promote", "all gates open" + (f"; warned: {'; '.join(warned)}" if warned else "")
    why = f"closed: {'; '.join(closed)}"
    if kept_before + 1 >= patience:
        return "stop", f"{why}; {kept_before + 1} iterations in a row changed nothing"
    return "keep", why
