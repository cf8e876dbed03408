"""The viewer's command: ``mentalarena view``.

Why: one line from a store to a browser. It listens on this machine only, writes nothing, and needs
no network.

Run it: ``mentalarena view [--db PATH] [--port N]``; Ctrl-C ends it.
"""

import asyncio
import shlex
import socket
import webbrowser
from pathlib import Path

import click

from mentalarena.config import DEFAULT_DB
from mentalarena.errors import ConfigurationError
from mentalarena.hints import command_name, with_db
from mentalarena.models import require
from mentalarena.store_reader import open_readonly

HOST = "127.0.0.1"


def listening_socket(port: int) -> socket.socket:
    """A socket that listens on this machine.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((HOST, port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise ConfigurationError(
            f"--port {port} cannot be used ({error.strerror}): give another one, or 0 for any"
        ) from error
    return found


async def serve(path: Path, listening: socket.socket) -> None:
    """Show the store at ``path`` until interrupted."""
    import uvicorn

    from mentalarena.view.server import viewer

    shown = viewer(path)
    await shown.invoke_startup()
    settings = uvicorn.Config(
        shown.app(), log_level="warning", lifespan="on", timeout_graceful_shutdown=2
    )
    await uvicorn.Server(settings).serve(sockets=[listening])


@click.command("view")
@click.option("--db", default=DEFAULT_DB, envvar="MENTALARENA_DB", show_default=True,
              metavar="PATH", help="Path of the store.")  # fmt: skip
@click.option("--port", default=8001, envvar="MENTALARENA_PORT", show_default=True,
              type=click.IntRange(0, 65535),
              help="Port on this machine; 0 takes a free one.")  # fmt: skip
@click.option("--open", "open_browser", is_flag=True, envvar="MENTALARENA_OPEN",
              help="Open a browser.")  # fmt: skip
def view(db: str, port: int, open_browser: bool) -> int:
    """Look at a store in a browser: runs, episodes, transcripts, routes, every row.

    Read-only, for this machine only, without network. A batch that is being written is followed.
    Ctrl-C ends it with exit code 0.
    """
    require("datasette", "mentalarena[view]")
    with open_readonly(db) as store:
        latest = store.fetch("select id from runs order by created_at desc limit 1")
    with listening_socket(port) as listening:
        address = f"http://{HOST}:{listening.getsockname()[1]}/"
        click.echo(f"{address}  (read-only, this machine only; Ctrl-C ends it)")
        if latest:
            run = shlex.quote(latest[0]["id"])
            click.echo(f"next: {command_name()} report {run} --html report.html{with_db(db)}")
        if open_browser:
            webbrowser.open(address)
        try:
            asyncio.run(serve(Path(db), listening))
        except KeyboardInterrupt:
            click.echo("closed")
    return 0
