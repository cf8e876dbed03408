"""The report's command: ``mentalarena report``.

Why: what a run showed, in one file that can be attached to a paper and says itself how it was made.

Run it: ``mentalarena report [RUN] --html FILE [--db PATH]``.
"""

import json
from typing import Any

import click

from mentalarena.config import DEFAULT_DB
from mentalarena.errors import StoreError
from mentalarena.files import write_page
from mentalarena.hints import command_name, with_db
from mentalarena.models import require
from mentalarena.store_api import ReadableStore
from mentalarena.store_reader import open_readonly


def find_run(store: ReadableStore, name: str | None) -> dict[str, Any]:
    """The run of this id or that begins with it; the newest without one.

    Raises:
        StoreError: there is none, or more than one.
    """
    if name is None:
        found = store.fetch("select * from runs order by created_at desc limit 1")
    else:
        found = store.fetch("select * from runs where id = ?", (name,)) or store.fetch(
            "select * from runs where substr(id, 1, ?) = ? order by id limit 6", (len(name), name)
        )
    if not found:
        what = f"no run {name!r}" if name else "no run yet"
        raise StoreError(f"the store holds {what}: `{command_name()} view` lists them")
    if len(found) > 1:
        raise StoreError(f"{name!r} fits several runs: {', '.join(row['id'] for row in found)}")
    return {**found[0], "config": json.loads(found[0]["config"])}


def report_page(store: ReadableStore, run: dict[str, Any]) -> str:
    """The report of a run as one page that stands alone."""
    from mentalarena.report import figures, plots
    from mentalarena.report.origin import origin
    from mentalarena.view.page import render

    run_id = run["id"]
    sections = []
    for title, note, found, settings in (
        ("Alignment by round", figures.alignment_by_round.__doc__,
         figures.alignment_by_round(store, run_id),
         {"axis": "share of components aligned", "line": True}),
        ("Intent bias by component", figures.bias_by_component.__doc__,
         figures.bias_by_component(store, run_id), {"axis": "share of episodes"}),
        ("Disclosure by style", figures.disclosure_by_style.__doc__,
         figures.disclosure_by_style(store, run_id), {"axis": "share of clauses told"}),
        ("Plan scores", figures.plan_scores.__doc__,
         figures.plan_scores(store, run_id), {"axis": "mean score, 1 to 10", "top": 10.0}),
    ):  # fmt: skip
        plot = plots.points(found, **settings) if found else ""
        sections.append({"title": title, "note": note, "points": found, "plot": plot})
    costs, varied = figures.cost_by_seat(store, run_id), figures.diversity(store, run_id)
    return render(
        "report.html",
        title=f"Report of run {run_id}",
        run=run,
        simulated=any(
            str(run["config"].get(role, "")).partition(",")[0] == "rules"
            for role in ("patient", "therapist", "manager", "judge")
        ),
        counts=figures.counts(store, run_id),
        sections=sections,
        costs=costs,
        cost_plot=plots.tokens(costs) if costs else "",
        varied=varied,
        varied_plot=plots.distinct(varied) if varied else "",
        origin=origin(store, run),
    )


@click.command("report")
@click.argument("run", required=False)
@click.option("--html", "html", required=True, envvar="MENTALARENA_HTML", metavar="FILE",
              help="Where to write the page.")  # fmt: skip
@click.option("--db", default=DEFAULT_DB, envvar="MENTALARENA_DB", show_default=True,
              metavar="PATH", help="Path of the store.")  # fmt: skip
def report(run: str | None, html: str, db: str) -> int:
    """Write the report of a run to one self-contained page: figures, plots, configuration.

    RUN is its id, or how it begins; the newest when not given. The store is opened for reading
    only.
    """
    require("matplotlib", "mentalarena[plots]")
    with open_readonly(db) as store:
        found = find_run(store, run)
        write_page(html, report_page(store, found))
    click.echo(f"wrote {html}")
    click.echo(f"next: {command_name()} batch --samples 3{with_db(db)}   (more episodes)")
    return 0
