"""Play one episode from Python and print what the decoder made of each formulation.

Why: the command line is a thin layer; a notebook or a study of one's own calls the same graph.

Run it: ``python examples/play_one.py``. It plays a patient of ``examples/patients.jsonl`` on the
rule-based seats and keeps its store in ``example.db`` in the current folder.
"""

import asyncio
import sys
from contextlib import closing
from pathlib import Path

from graphs.arena import graph
from graphs.routes import recursion_limit
from graphs.session import open_session
from mentalarena.config import ArenaConfig
from mentalarena.trajectory import read_trajectory

CONFIG = ArenaConfig(
    therapist="rules,misread=0.3",
    exchanges=4,
    probe_rounds=2,
    cases=str(Path(__file__).parent / "patients.jsonl"),
    db="example.db",
)


async def play(case_id: str, seed: int) -> str:
    """Play one episode and return its id."""
    state = await graph.ainvoke(
        {"case_id": case_id, "seed": seed},
        {"recursion_limit": recursion_limit(CONFIG)},
        context=CONFIG,
    )
    return str(state["episode_id"])


def main() -> None:
    """Play, read the trajectory back from the store, print verdicts and decisions."""
    with closing(open_session(CONFIG)) as session:
        trajectory = read_trajectory(session.store, asyncio.run(play("kemal-1", seed=3)))
    for decision in trajectory["decisions"]:
        sys.stdout.write(f"round {decision['round']}: {decision['decision']}\n")
        for verdict in trajectory["deviations"]:
            if verdict["round"] == decision["round"]:
                name, reason = verdict["component"], verdict["reason"]
                sys.stdout.write(f"  {name:32}{verdict['verdict']:12}{reason}\n")
        if decision["guidance"]:
            sys.stdout.write(f"  told: {decision['guidance']}\n")


if __name__ == "__main__":
    main()
