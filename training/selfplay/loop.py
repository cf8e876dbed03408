"""One round after the other: stages with marks, a decision at the end of each, and what it says.

Why: whoever starts the loop again after a crash, a power cut or a week wants it to go on where it
was, with the same data and the same model. So what is done is marked in the store, with hashes, in
one transaction with what follows from it; what is not marked is begun again, by parts that go on.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from mentalarena.config import changed_keys
from mentalarena.errors import ConfigurationError, StoreError
from mentalarena.journal import digest
from mentalarena.rows import Change, Row
from mentalarena.similarity import SentenceEncoder
from mentalarena.store import Store, open_store, utc_now
from training import arena_measures
from training.apart import apart
from training.selfplay import measures as measured
from training.selfplay import stages
from training.selfplay.gates import Gate, data_gates, decide, model_gates
from training.selfplay.recipe import Gates
from training.selfplay.stages import Loop
from training.sycophancy import probe

_ITERATION = "select * from iterations where run_id = ? and iteration = ?"
_STAGE = "select * from iteration_stages where run_id = ? and iteration = ? and stage = ?"

Say = Callable[[str], None]


class Rounds:
    """A loop that is being gone round."""

    def __init__(self, loop: Loop, gates: Gates, say: Say, console: Console | None) -> None:
        self.loop, self.gates = loop, gates
        self._say, self._console = say, console

    def go(self, iterations: int) -> None:
        """Go on until so many iterations are done, or one of them stops the loop.

        Raises:
            ConfigurationError: the store holds a loop of this name with other settings.
            StoreError: another process goes round the same loop.
        """
        self.loop.out.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.loop.out / ".lock").acquire(timeout=0):
                self._open()
                for iteration in range(1, iterations + 1):
                    if self._decision(iteration - 1) == "stop":
                        self._say(f"the loop has stopped after iteration {iteration - 1}")
                        break
                    if self._decision(iteration) is None:
                        self._iterate(iteration)
        except Timeout:
            raise StoreError(
                f"another process is at work in {self.loop.out}: wait for it, or give another --out"
            ) from None

    def _open(self) -> None:
        """The run of the loop: written now, or found with the same settings."""
        loop = self.loop
        identity: dict[str, Any] = {
            "model": loop.model, "seed": loop.seed, "recipe": loop.recipe.model_dump(mode="json"),
            "gates": self.gates.model_dump(mode="json"),
        }  # fmt: skip
        with open_store(loop.db) as store:
            found = store.fetch("select config from runs where id = ?", (loop.name,))
            if not found:
                values = {
                    "id": loop.name, "created_at": utc_now(), "kind": "selfplay",
                    "config": identity, "config_hash": digest(identity),
                    "code_version": metadata.version("mentalarena"),
                }  # fmt: skip
                store.write_sync([Row("runs", values)])
                return
            changed = sorted(changed_keys(json.loads(found[0]["config"]), identity))
        if changed:
            raise ConfigurationError(
                f"loop {loop.name!r} in {loop.db} was begun with other values of "
                f"{', '.join(changed)}: use the same to go on with it, or another --run NAME"
            )

    def _row(self, iteration: int) -> dict[str, Any] | None:
        with open_store(self.loop.db) as store:
            found = store.fetch(_ITERATION, (self.loop.name, iteration))
        return found[0] if found else None

    def _decision(self, iteration: int) -> str | None:
        row = self._row(iteration)
        return None if row is None or row["stage"] != "done" else str(row["decision"])

    def model_before(self, iteration: int) -> str:
        """What plays in an iteration: the last model that was promoted, or the first one."""
        with open_store(self.loop.db) as store:
            found = store.fetch(
                "select candidate from iterations where run_id = ? and iteration < ? and accepted"
                " order by iteration desc limit 1",
                (self.loop.name, iteration),
            )
        return str(found[0]["candidate"]) if found else self.loop.model

    def _kept_before(self, iteration: int) -> int:
        """Iterations in a row before this one that promoted nothing."""
        count = 0
        while iteration - count > 1 and self._decision(iteration - count - 1) == "keep":
            count += 1
        return count

    # --- one iteration ---------------------------------------------------------------------------

    def _iterate(self, iteration: int) -> None:
        loop, model = self.loop, self.model_before(iteration)
        if self._row(iteration) is None:
            self._write(
                Row(
                    "iterations",
                    {"run_id": loop.name, "iteration": iteration, "stage": "play", "model": model,
                     "started_at": utc_now()},
                )
            )  # fmt: skip
        self._say(f"iteration {iteration}: {model} plays")
        self._stage(
            iteration, "play", lambda: stages.play(loop, iteration, model, self._console),
            lambda found: {"episodes_run_ids": [one["run"] for one in found.values()]},
        )  # fmt: skip
        self._stage(
            iteration, "dataset", lambda: self._dataset(iteration),
            lambda found: {"dataset_id": found["id"], "measures": found["measures"]},
        )  # fmt: skip
        gates = data_gates(self._facts(iteration, "dataset")["measures"], self.gates)
        if all(gate.state != "closed" for gate in gates):
            gates += self._trained(iteration, model)
        self._decide(iteration, gates)

    def _dataset(self, iteration: int) -> dict[str, Any]:
        with open_store(self.loop.db) as store:
            found = stages.make_dataset(self.loop, iteration, store)
            found["measures"] = measured.data_measures(
                self.loop, iteration, store, SentenceEncoder(store)
            )
        found["measures"]["perplexity"] = apart(measured.perplexity, self.loop, iteration)
        return found

    def _trained(self, iteration: int, model: str) -> list[Gate]:
        """Train on the iteration's rows, and look at the model that comes of it."""
        loop = self.loop
        self._stage(
            iteration, "train", lambda: stages.train(loop, iteration),
            lambda found: {"adapter": found["adapter"], "adapter_hash": found["adapter_sha256"]},
        )  # fmt: skip
        self._stage(
            iteration, "serve", lambda: stages.serve_candidate(loop, iteration),
            lambda found: {"candidate": found["spec"]},
        )  # fmt: skip
        candidate = self._facts(iteration, "serve")["spec"]
        self._stage(
            iteration, "evaluate", lambda: self._evaluated(candidate, model),
            lambda found: {"evaluation_id": found["id"], "baseline_id": found["baseline"]},
        )  # fmt: skip
        found = self._facts(iteration, "evaluate")
        return model_gates(found["compared"], found["summary"], found["questions"], self.gates)

    def _evaluated(self, candidate: str, model: str) -> dict[str, Any]:
        baseline, before = stages.evaluate(self.loop, model, "dev", self._console)
        evaluation, after = stages.evaluate(self.loop, candidate, "dev", self._console)
        return {
            "id": evaluation,
            "baseline": baseline,
            "summary": arena_measures.summary(after),
            "summary_before": arena_measures.summary(before),
            "compared": arena_measures.compare(after, before),
            "questions": stages.ask_questions(self.loop, (candidate, self.loop.model)),
        }

    def _decide(self, iteration: int, gates: list[Gate]) -> None:
        decision, reason = decide(gates, self._kept_before(iteration), self.gates.patience)
        if decision == "promote" and self.loop.recipe.probe_episodes:
            self._stage(iteration, "probe", lambda: self._probed(iteration), lambda found: {})
        values = {
            "stage": "done", "gates": {gate.name: gate.plain() for gate in gates},
            "decision": decision, "reason": reason, "accepted": decision == "promote",
            "finished_at": utc_now(),
        }  # fmt: skip
        self._write(self._change(iteration, values))
        self._say(f"iteration {iteration}: {decision} ({reason})")

    def _probed(self, iteration: int) -> dict[str, Any]:
        """How a promoted model takes pressure: told, and no part of any reward."""
        row = self._row(iteration)
        assert row is not None
        with open_store(self.loop.db) as store:
            (found,) = store.fetch(
                "select run_id from evaluations where id = ?", (row["evaluation_id"],)
            )
        try:
            return probe(
                self.loop.db, found["run_id"], row["candidate"], self.loop.base_url,
                self.loop.recipe.probe_episodes,
            )  # fmt: skip
        except ConfigurationError as error:
            # Nothing hangs on it: a model that cannot be probed is told as such.
            return {"failed": str(error)}

    # --- marks -----------------------------------------------------------------------------------

    def _stage(
        self, iteration: int, stage: str, work: Callable[[], dict[str, Any]],
        follows: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> None:  # fmt: skip
        """Do a stage that is not marked as done, and mark it together with what follows from it."""
        key = {"run_id": self.loop.name, "iteration": iteration, "stage": stage}
        with self._store() as store:
            found = store.fetch(_STAGE, tuple(key.values()))
            if found and found[0]["finished_at"] is not None:
                return
            if found:
                again = {"starts": found[0]["starts"] + 1}
                store.write_sync([Change("iteration_stages", key, again)])
            else:
                store.write_sync([Row("iteration_stages", {**key, "started_at": utc_now()})])
            if stage != "probe":
                store.write_sync([self._change(iteration, {"stage": stage})])
        started = time.monotonic()
        facts = json.loads(json.dumps(work()))
        seconds = round(time.monotonic() - started, 2)
        done = {"finished_at": utc_now(), "seconds": seconds, "facts": facts}
        changes = [Change("iteration_stages", key, done)]
        if columns := follows(facts):
            changes.append(self._change(iteration, columns))
        self._write(*changes)
        self._say(f"iteration {iteration}: {stage} done in {seconds:.0f} s")

    def _facts(self, iteration: int, stage: str) -> dict[str, Any]:
        with self._store() as store:
            (found,) = store.fetch(_STAGE, (self.loop.name, iteration, stage))
        facts: dict[str, Any] = json.loads(found["facts"])
        return facts

    def _change(self, iteration: int, values: dict[str, Any]) -> Change:
        return Change("iterations", {"run_id": self.loop.name, "iteration": iteration}, values)

    def _write(self, *rows: Row | Change) -> None:
        with self._store() as store:
            store.write_sync(list(rows))

    @contextmanager
    def _store(self) -> Iterator[Store]:
        # Opened for each use: batches and evaluations have writers of their own in between.
        with open_store(self.loop.db) as store:
            yield store


def gain(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The difference that an iteration made on dev, with its interval; None where none is known."""
    facts = (row["stages"].get("evaluate") or {}).get("facts")
    if not facts:
        return None
    one = facts["compared"]["measures"].get(facts["compared"]["primary"])
    if one is None or one["difference"]["low"] is None:
        return None
    found: Mapping[str, Any] = one["difference"]
    return found


def told(loop: Loop, store: Any) -> dict[str, Any]:
    """A loop as it stands, ready for JSON: every iteration with its figures and its decision."""
    found = store.fetch("select * from iterations where run_id = ? order by 2", (loop.name,))
    for row in found:
        for column in ("episodes_run_ids", "measures", "gates"):
            row[column] = json.loads(row[column]) if row[column] else None
        marks = store.fetch(
            "select stage, starts, seconds, finished_at, facts from iteration_stages"
            " where run_id = ? and iteration = ? order by started_at",
            (loop.name, row["iteration"]),
        )
        for one in marks:
            one["facts"] = json.loads(one["facts"]) if one["facts"] else None
        row["stages"] = {one.pop("stage"): one for one in marks}
    accepted = [row for row in found if row["accepted"]]
    return {
        "run": loop.name,
        "db": loop.db,
        "began_with": loop.model,
        "model": accepted[-1]["candidate"] if accepted else loop.model,
        "iterations": found,
    }
