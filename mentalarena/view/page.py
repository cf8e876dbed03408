"""Templates into pages; the one place where text of models and files becomes HTML.

Why: everything shown came from somewhere else. Each value is escaped by the template engine, and
the whole page then passes :func:`mentalarena.text.clean`, so that a control or direction character
has no way in, whatever a template forgets. A page for a browser links to rows and queries; a page
in a file stands alone: style inside, no script, no address of anything.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mentalarena.case import Component
from mentalarena.text import clean, clip

GLYPHS = {"aligned": "●", "unclear": "◐", "missed": "○", "distorted": "✗", "unsupported": "!"}
"""As in the terminal."""


class Links(Protocol):
    """Where a page leads; None where it cannot lead there."""

    def to(self, page: str, /, *ids: object, **query: object) -> str | None:
        """Address of one of our pages, such as ``episode``."""
        ...

    def row(self, table: str, /, *key: object) -> str | None:
        """Address of one row of the store."""
        ...

    def rows(self, table: str, /, **where: object) -> str | None:
        """Address of the rows of a table that have these values."""
        ...

    def sql(self, statement: str, /, **values: object) -> str | None:
        """Address of a query's answer."""
        ...


class NoLinks:
    """For a page in a file."""

    def to(self, page: str, /, *ids: object, **query: object) -> None:
        """See :class:`Links`."""

    row = rows = sql = to


class ServerLinks:
    """For the viewer: pages of ours by name, rows and queries of Datasette's under ``/store``."""

    def to(self, page: str, /, *ids: object, **query: object) -> str:
        """See :class:`Links`."""
        asked = {key: str(value) for key, value in query.items() if value not in (None, "")}
        path = "/".join(["", page, *(tilde(value) for value in ids)]) if page else "/"
        return path + (f"?{urlencode(asked)}" if asked else "")

    def row(self, table: str, /, *key: object) -> str:
        """See :class:`Links`."""
        return f"/store/{table}/" + ",".join(tilde(value) for value in key)

    def rows(self, table: str, /, **where: object) -> str:
        """See :class:`Links`."""
        asked = {f"{column}__exact": str(value) for column, value in where.items()}
        return f"/store/{table}?" + urlencode(asked)

    def sql(self, statement: str, /, **values: object) -> str:
        """See :class:`Links`."""
        return "/store?" + urlencode({"sql": statement, **{k: str(v) for k, v in values.items()}})


def tilde(value: object) -> str:
    """A value as part of a path, in Datasette's way: ``~`` and two hexadecimal digits a byte."""
    return quote(str(value), safe="").replace("~", "%7E").replace(".", "%2E").replace("%", "~")


def number(value: Any, digits: int = 2) -> str:
    """A figure as people read it; an en dash for none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def label(component: str) -> str:
    """A component's name as people read it; unknown ones as they are."""
    try:
        return Component(component).label
    except ValueError:
        return component.replace("_", " ")


def figure(value: Any) -> str:
    """A figure of an evaluation or a gate in a line: the value first, its interval after it."""
    if not isinstance(value, Mapping):
        if isinstance(value, list | tuple):
            return ", ".join(figure(one) for one in value)
        return number(value, 3) if isinstance(value, int | float | None) else str(value)
    rest = dict(value)
    main = next((rest.pop(name) for name in ("value", "estimate", "mean") if name in rest), None)
    parts = [] if main is None else [figure(main)]
    if rest.get("low") is not None and rest.get("high") is not None:
        parts.append(f"({figure(rest.pop('low'))} to {figure(rest.pop('high'))})")
    parts += [f"{name} {figure(one)}" for name, one in rest.items()]
    return ", ".join(parts).replace(", (", " (")


def pretty(value: Any) -> str:
    """JSON with line breaks."""
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)


def _with(chosen: Mapping[str, str], name: str, value: object) -> dict[str, object]:
    return {**chosen, name: value}


def _without(chosen: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in chosen.items() if key != name}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mentalarena.view", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, label=label, clip=clip, figure=figure, pretty=pretty)
    environment.globals.update(GLYPHS=GLYPHS, widened=_with, without=_without)
    return environment


def asset(name: str) -> str:
    """The text of a file under ``assets``."""
    return (files("mentalarena.view") / "assets" / name).read_text("utf-8")


def render(template: str, *, links: Links | None = None, **values: Any) -> str:
    """A page, whole and clean.

    Args:
        template: its name under ``pages``.
        links: where it leads; None makes a page that stands alone.
        **values: what it shows.
    """
    alone = links is None
    style = Markup(asset("arena.css")) if alone else ""
    text = (
        _environment()
        .get_template(template)
        .render(
            layout="file.html" if alone else "server.html",
            style=style,
            links=links or NoLinks(),
            **values,
        )
    )
    return clean(text)
