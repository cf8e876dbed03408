"""The viewer: our pages in Datasette, over a store that nobody can write through it.

Why: tables, queries and exports are Datasette's and well kept; runs, episodes and routes are ours.
The file is opened read-only and for queries only, whatever a plugin or an address asks for; only
GET is answered, only to this machine and under its own name; every page leaves through
:func:`mentalarena.text.clean`. This module is the plugin (:func:`viewer` registers it).
"""

import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from datasette import hookimpl
from datasette.app import Datasette
from datasette.database import Database
from datasette.plugins import pm
from datasette.utils import tilde_decode
from datasette.utils.asgi import NotFound, Request, Response
from markupsafe import Markup

from mentalarena.errors import StoreError
from mentalarena.store_api import Params
from mentalarena.store_reader import connect_readonly, read_rows
from mentalarena.text import clean
from mentalarena.view import queries
from mentalarena.view.episode import episode_page
from mentalarena.view.page import ServerLinks, asset, render

STORE = "store"
"""Name of the database in addresses, whatever the file is called."""
HOSTS = ("127.0.0.1", "localhost", "[::1]")
LINKS = ServerLinks()
SETTINGS = {
    "allow_download": False,
    "suggest_facets": False,
    "default_page_size": 50,
    "truncate_cells_html": 600,
    "sql_time_limit_ms": 2000,
    "num_sql_threads": 2,
    "default_cache_ttl": 0,
}
_STYLE = "style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
_REST = "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
POLICY = f"default-src 'none'; script-src 'self'; {_STYLE}{_REST}"
"""For our pages: no script but our own file, nothing from anywhere else."""
STOCK_POLICY = f"default-src 'self'; script-src 'self' 'unsafe-inline'; {_STYLE}{_REST}"
"""For Datasette's own pages, which carry their scripts with them."""

PLAIN = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
"""For every answer: it is what it says it is, and nobody is told where a reader came from."""


class StoreDatabase(Database):  # type: ignore[misc]
    """The store, opened in the way of all our readers."""

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """A connection for queries only.

        Raises:
            StoreError: somebody asks for one that writes, or the file cannot be opened.
        """
        if write:
            raise StoreError(f"{self.path} is open for reading only")
        connection = connect_readonly(Path(self.path))
        connection.execute("pragma query_only = 1")
        self._all_file_connections.append(connection)
        return connection


class Rows:
    """A connection of Datasette's as a store that can be read."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    def fetch(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """See :class:`mentalarena.store_api.ReadableStore`."""
        return read_rows(self._connection, self.path, sql, params)


def viewer(path: Path) -> Datasette:
    """A Datasette that shows the store at ``path``."""
    if not pm.is_registered(_plugin()):
        pm.register(_plugin(), "mentalarena")
        # It prints a page of local variables for every wrong address.
        pm.unregister(name="datasette.handle_exception")
    shown = Datasette([], settings=SETTINGS, memory=False)
    shown.remove_database("_memory")
    shown.add_database(StoreDatabase(shown, str(path), is_mutable=True), name=STORE)
    return shown


def _plugin() -> Any:
    return sys.modules[__name__]


async def read(shown: Datasette, work: Callable[[Rows], Any]) -> Any:
    """What ``work`` makes of the store, in a thread, all of it from one moment."""
    database = shown.get_database(STORE)

    def at_one_moment(connection: sqlite3.Connection) -> Any:
        connection.execute("begin")
        try:
            return work(Rows(Path(database.path), connection))
        finally:
            connection.execute("rollback")

    return await database.execute_fn(at_one_moment)


def _page(text: str) -> Response:
    return Response.html(text, headers={"content-security-policy": POLICY})


def _id(request: Request) -> str:
    return str(tilde_decode(request.url_vars["id"]))


async def runs_page(datasette: Datasette) -> Response:
    """Every run."""

    def work(store: Rows) -> str:
        found = queries.runs(store)
        live = any("running" in run["states"] for run in found)
        return render("runs.html", links=LINKS, title="Runs", runs=found, live=live)

    return _page(await read(datasette, work))


async def run_page(datasette: Datasette, request: Request) -> Response:
    """One run."""
    run_id = _id(request)

    def work(store: Rows) -> str | None:
        found = queries.run(store, run_id)
        if found is None:
            return None
        live = "running" in found["states"]
        return render("run.html", links=LINKS, title=f"Run {run_id}", live=live, **found)

    return _found(await read(datasette, work), "run", run_id)


async def episodes_page(datasette: Datasette, request: Request) -> Response:
    """Episodes, narrowed down, or what was said in them."""
    chosen = {name: request.args.get(name) for name in queries.FACETS if request.args.get(name)}
    query = (request.args.get("q") or "").strip()[:500]
    page = request.args.get("page") or "0"
    number = int(page) if page.isdecimal() and len(page) < 9 else 0

    def work(store: Rows) -> str:
        found = queries.episodes(store, chosen, query, number)
        return render("episodes.html", links=LINKS, title="Episodes", live=False, **found)

    return _page(await read(datasette, work))


async def one_episode_page(datasette: Datasette, request: Request) -> Response:
    """One episode."""
    episode_id = _id(request)

    def work(store: Rows) -> str | None:
        known = store.fetch("select 1 from episodes where id = ?", (episode_id,))
        return episode_page(store, episode_id, LINKS) if known else None

    return _found(await read(datasette, work), "episode", episode_id)


async def call_page(datasette: Datasette, request: Request) -> Response:
    """One journaled call."""
    call_id = _id(request)

    def work(store: Rows) -> str | None:
        found = queries.call(store, call_id)
        if found is None:
            return None
        return render("call.html", links=LINKS, title=f"Call {call_id}", live=False, **found)

    return _found(await read(datasette, work), "call", call_id)


async def iterations_page(datasette: Datasette) -> Response:
    """The self-play loop: data, losses, evaluations, lineage."""

    def work(store: Rows) -> str:
        return render(
            "iterations.html", links=LINKS, title="Iterations", live=False,
            iterations=queries.iterations(store), evaluations=queries.evaluations(store),
        )  # fmt: skip

    return _page(await read(datasette, work))


def _found(text: str | None, what: str, name: str) -> Response:
    if text is None:
        raise NotFound(f"The store holds no {what} {name[:100]!r}")
    return _page(text)


def _asset(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    text = asset(name)

    async def send() -> Response:
        return Response(text, content_type=f"{kind}; charset=utf-8")

    return send


@hookimpl
def register_routes(datasette: Datasette) -> list[tuple[str, Callable[..., Awaitable[Response]]]]:
    """Our pages; they come before Datasette's."""
    return [
        (r"^/$", runs_page),
        (r"^/run/(?P<id>[^/]+)$", run_page),
        (r"^/episodes$", episodes_page),
        (r"^/episode/(?P<id>[^/]+)$", one_episode_page),
        (r"^/call/(?P<id>[^/]+)$", call_page),
        (r"^/iterations$", iterations_page),
        (r"^/-/arena/arena\.css$", _asset("arena.css", "text/css")),
        (r"^/-/arena/tables\.css$", _asset("tables.css", "text/css")),
        (r"^/-/arena/arena\.js$", _asset("arena.js", "text/javascript")),
    ]


@hookimpl
def extra_css_urls() -> list[str]:
    """Datasette's own pages in the dark, and at phone width."""
    return ["/-/arena/tables.css"]


@hookimpl
def render_cell(value: Any, column: str) -> Markup | None:
    """In Datasette's tables, ids of ours lead to our pages."""
    page = {"episode_id": "episode", "run_id": "run", "call_id": "call"}.get(column)
    if page is None or not isinstance(value, str):
        return None
    return Markup('<a href="{}">{}</a>').format(LINKS.to(page, value), value)


@hookimpl
def handle_exception(request: Request, exception: Exception) -> Response:
    """One line of what is wrong, in the form that was asked for."""
    status = int(getattr(exception, "status", 500))
    message = str(getattr(exception, "message", exception))
    if getattr(exception, "message_is_html", False):
        message = Markup(message).striptags()
    if status == 500 and not isinstance(exception, StoreError):
        # Ours: whoever started the viewer should see where.
        sys.excepthook(type(exception), exception, exception.__traceback__)
    if request.path.endswith(".json"):
        return Response.json({"ok": False, "status": status, "error": message}, status=status)
    text = render(
        "error.html", links=LINKS, title=f"Error {status}", live=False, status=status,
        message=message,
    )  # fmt: skip
    return Response.html(text, status=status, headers={"content-security-policy": POLICY})


@hookimpl
def asgi_wrapper() -> Callable[[Any], Any]:
    """Refuse what is not a look from this machine, and clean what leaves."""
    return guarded


def guarded(app: Any) -> Any:
    """An application that is only looked at, from here."""

    async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        # A page elsewhere may lead a browser here under a name of its own: it must see nothing.
        if name not in HOSTS:
            await _refuse(send, 403, f"{name or 'no name'} is not this machine")
        elif scope["method"] not in ("GET", "HEAD"):
            await _refuse(send, 405, "the viewer is read-only")
        else:
            await app(scope, receive, _cleaned(send))

    return asgi


async def _refuse(send: Any, status: int, why: str) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [kind]})
    await send({"type": "http.response.body", "body": clean(why).encode()})


def _cleaned(send: Any) -> Callable[[dict[str, Any]], Awaitable[None]]:
    """A ``send`` that holds a page back until it is whole, and cleans it."""
    start: dict[str, Any] = {}
    body = bytearray()

    def _headers(length: int) -> Iterator[tuple[bytes, bytes]]:
        names = set()
        for name, value in start["headers"]:
            names.add(name.lower())
            yield name, str(length).encode() if name.lower() == b"content-length" else value
        if b"content-security-policy" not in names:
            yield b"content-security-policy", STOCK_POLICY.encode()
        yield from PLAIN

    async def cleaned(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kinds = [v for k, v in message["headers"] if k.lower() == b"content-type"]
            start.update(message)
            start["page"] = any(b"text/html" in kind for kind in kinds)
            if not start["page"]:
                await send({**message, "headers": [*message["headers"], *PLAIN]})
            return
        if not start["page"]:
            await send(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        text = clean(body.decode("utf-8", "replace").replace("\r\n", "\n")).encode()
        head = {**start, "headers": list(_headers(len(text)))}
        del head["page"]
        await send(head)
        await send({"type": "http.response.body", "body": text})

    return cleaned
