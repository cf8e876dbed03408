"""Workers that are actors of a Ray cluster: ``--executor ray``.

Why: beyond one machine something has to place processes, notice their death and carry messages;
Ray does that. An actor holds the same :class:`graphs.worker.Worker` as a process of this machine,
and speaks the same messages over Ray's own transport: what it stores goes to the driver's writer
and is acknowledged there, so that its death costs no more than a process's. Every node needs this
package, and the key of the model's server in its own environment: keys do not travel.

Try it: ``python -m graphs.batch --executor ray --workers 2`` (a cluster on this machine).
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from graphs.executors import Connect
from graphs.link import Left, Message, Setup
from graphs.worker import Worker
from mentalarena.errors import ConfigurationError, WorkerError

PLACED_WITHIN = 120.0
"""Seconds that the cluster gets to start an actor."""
_OBJECT_STORE = 100 * 2**20
"""Bytes; messages are small and travel beside it."""


class Actor:
    """A worker behind method calls; runs in a process of the cluster."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._worker: Worker | None = None

    async def messages(self, setup: Setup) -> AsyncIterator[list[Message]]:
        """Start, and from then on everything that the worker says, until it has left."""
        self._worker = Worker(setup, self._said.put_nowait)
        yield []
        while True:
            batch = [await self._said.get()]
            while not self._said.empty():
                batch.append(self._said.get_nowait())
            yield batch
            if isinstance(batch[-1], Left):
                return

    async def receive(self, messages: Sequence[Message]) -> None:
        """Take what the driver says."""
        assert self._worker is not None, "the driver waits for the first of messages()"
        for message in messages:
            self._worker.receive(message)

    async def process(self) -> int:
        """Id of the process it runs in, on its own node."""
        return os.getpid()


class ActorConnection:
    """The driver's end; see :class:`graphs.executors.Connection`."""

    def __init__(self, actor: Any, stream: AsyncIterator[Any]) -> None:
        self.actor = actor
        self._stream = stream
        self._heard: deque[Message] = deque()
        self._to_say: list[Message] = []

    def send(self, message: Message) -> None:
        """See :class:`graphs.executors.Connection`."""
        if not self._to_say:
            # What is said in one turn of the loop makes one call.
            asyncio.get_running_loop().call_soon(self._say)
        self._to_say.append(message)

    def _say(self) -> None:
        messages, self._to_say = self._to_say, []
        self.actor.receive.remote(messages)

    async def next(self) -> Message:
        """See :class:`graphs.executors.Connection`."""
        while not self._heard:
            self._heard.extend(await self.batch())
        return self._heard.popleft()

    async def batch(self) -> list[Message]:
        """What the actor says next, all at once.

        Raises:
            ConnectionError: it is gone.
        """
        try:
            messages: list[Message] = await (await anext(self._stream))
        except (RayError, StopAsyncIteration) as error:
            raise ConnectionResetError(str(error)) from error
        return messages

    async def close(self) -> None:
        """See :class:`graphs.executors.Connection`."""
        ray.kill(self.actor)


def connector(address: str, workers: int) -> Connect:
    """Join a cluster (start one on this machine for an empty address) and say how to start workers.

    Raises:
        ConfigurationError: no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                num_cpus=max(workers, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
        reason = str(error).strip().splitlines()[0][:300]
        raise ConfigurationError(f"--executor ray: cannot reach {where}: {reason}") from error
    place = ray.remote(Actor).options(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")

    async def connect(setup: Setup) -> ActorConnection:
        actor: Any = place.remote()
        stream = actor.messages.options(num_returns="streaming").remote(setup)
        connection = ActorConnection(actor, aiter(stream))
        try:
            async with asyncio.timeout(PLACED_WITHIN):
                await connection.batch()
        except TimeoutError:
            raise WorkerError(
                f"the Ray cluster found no place for worker {setup.worker} within "
                f"{PLACED_WITHIN:.0f} s: it needs one CPU a worker; use fewer --workers"
            ) from None
        return connection

    return connect
