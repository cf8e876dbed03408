"""What a node's update becomes in the store: the one place that maps channels to rows.

Why: nodes stay thin and speak of seats only; whatever a node adds to the state lands in its table
under a key that does not depend on time, so that running an episode again writes the same rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from graphs.state import ArenaState, Finding
from mentalarena.journal import digest
from mentalarena.store import Change, Row, Write, utc_now


def rows_of(episode_id: str, attempt: int, update: ArenaState) -> Iterator[Write]:
    """Rows for one node's update."""
    key = {"episode_id": episode_id}
    if "principle" in update:
        values = {
            "principle_id": update["principle"]["id"],
            "principle_scores": update["principle_scores"],
        }
        yield Change("episodes", {"id": episode_id}, values)
    for diagnosis in update.get("diagnoses", ()):
        status = "unmapped" if diagnosis["code"] is None else "mapped"
        yield Row("diagnoses", {**key, **_flagged(diagnosis), "status": status})
        for n, code in enumerate(diagnosis["codes"]):
            yield Row("diagnosis_codes", {**key, "idx": diagnosis["idx"], "n": n, "code": code})
        yield from _flags(episode_id, "diagnosis", diagnosis["idx"], diagnosis["flags"])
    for plan in update.get("plans", ()):
        yield Row("plans", {**key, **_flagged(plan), "response": plan["response"] or ""})
        yield from _flags(episode_id, plan["kind"], plan["attempt"], plan["flags"])
    for channel in ("injections", "deviations", "scores"):
        for record in update.get(channel, ()):  # type: ignore[attr-defined]
            yield Row(channel, {**key, **record})
    for turn in update.get("turns", ()):
        yield Row("turns", {**key, **_flagged(turn)})
        yield from _flags(episode_id, "turn", turn["idx"], turn["flags"])
    for formulation in update.get("formulations", ()):
        for component, stated in formulation["components"].items():
            yield Row(
                "formulations",
                {
                    **key,
                    "round": formulation["round"],
                    "component": component,
                    "statement": stated["statement"],
                    "quotes": list(stated["quotes"]),
                    "call_id": formulation["call_id"],
                },
            )
    for decision in update.get("decisions", ()):
        yield Row("decisions", {**key, **decision})
    for failure in update.get("failures", ()):
        yield error_row(
            episode_id,
            attempt,
            failure["boundary"],
            ANSWER_FAILURES[failure["boundary"]],
            f"{failure['node']}: {failure['message']}",
            failure["call_id"],
        )


ANSWER_FAILURES: Final[Mapping[str, str]] = {
    "parse": "ParseFailure",
    "empty": "EmptyAnswer",
    "role_flip": "RoleFlip",
}
"""What an answer that could not be used is called among errors, by boundary; such a row does not
say why an episode failed."""

_APART = ("flags", "codes")
"""What a record holds that has rows of its own."""


def _flagged(record: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a record; no crisis is null."""
    columns = {name: value for name, value in record.items() if name not in _APART}
    return {**columns, "crisis": record["crisis"] or None}


def _flags(episode_id: str, place: str, idx: int, findings: Sequence[Finding]) -> Iterator[Write]:
    for n, finding in enumerate(findings):
        yield Row(
            "flags", {"episode_id": episode_id, "place": place, "idx": idx, "n": n, **finding}
        )
    if any(f["screen"] == "crisis" and f["qualifier"] is None for f in findings):
        yield Change("episodes", {"id": episode_id}, {"crisis": True})


def error_row(
    episode_id: str, attempt: int, boundary: str, kind: str, message: str, call_id: str | None
) -> Row:
    """A row of ``errors``; its id is its content, so a replay does not double it."""
    values: dict[str, Any] = {
        "episode_id": episode_id,
        "attempt": attempt,
        "boundary": boundary,
        "type": kind,
        "message": message,
        "call_id": call_id,
    }
    return Row("errors", {"id": digest(values, 32), **values, "created_at": utc_now()})


def route_row(episode_id: str, step: int, source: str, target: str, reason: str) -> Row:
    """A row of ``routes``."""
    return Row(
        "routes",
        {
            "episode_id": episode_id,
            "step": step,
            "source": source,
            "target": target,
            "reason": reason,
        },
    )
