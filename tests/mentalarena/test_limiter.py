"""The limiter finds what a server takes, obeys it, and takes one overload for one."""

import asyncio
import time
from collections import deque

import pytest

from mentalarena.errors import BudgetError
from mentalarena.limiter import CUT, START, Limiter, Moment


class Server:
    """Answers after ``latency`` seconds, refuses what goes beyond ``capacity``."""

    def __init__(self, capacity: int, latency: float = 0.01, wait: float = 0.02) -> None:
        self.capacity = capacity
        self.latency = latency
        self.wait = wait
        self.in_flight = 0
        self.most = 0
        self.refused = 0
        self.answered = 0

    async def ask(self, limiter: Limiter) -> None:
        while True:
            async with limiter.request() as slot:
                if self.in_flight >= self.capacity:
                    self.refused += 1
                    slot.throttled(self.wait)
                    continue
                self.in_flight += 1
                self.most = max(self.most, self.in_flight)
                try:
                    await asyncio.sleep(self.latency)
                finally:
                    self.in_flight -= 1
                self.answered += 1
                slot.succeeded()
                return


async def demand(limiter: Limiter, server: Server, requests: int, at_once: int) -> None:
    left = deque(range(requests))

    async def one() -> None:
        while left:
            left.pop()
            await server.ask(limiter)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one())


async def test_it_grows_to_what_is_asked_for_and_no_further() -> None:
    moments: list[Moment] = []
    limiter = Limiter(moments.append)
    await demand(limiter, Server(10_000), 1500, 40)
    assert moments[0] == Moment("start", START, 0)
    assert {moment.reason for moment in moments[1:]} == {"grow"}
    assert 40 <= limiter.limit <= 80, "beyond the demand a limit is never felt"


async def test_it_keeps_near_what_the_server_takes() -> None:
    moments: list[Moment] = []
    limiter = Limiter(moments.append)
    server = Server(16)
    await demand(limiter, server, 1500, 100)
    assert server.answered == 1500
    assert server.most == 16
    cuts = [moment for moment in moments if moment.reason == "throttled"]
    assert cuts
    # Without a limiter 84 of the first 100 requests alone would have been refused.
    assert server.refused < 84
    later = moments[moments.index(cuts[0]) + 1 :]
    assert max(moment.limit for moment in later) <= 16 + 2
    assert min(moment.limit for moment in later) >= 16 * CUT * CUT


async def test_a_burst_of_refusals_is_one_overload() -> None:
    moments: list[Moment] = []
    limiter = Limiter(moments.append, start=64)
    slots = [limiter.request() for _ in range(64)]
    for slot in slots:
        await slot.__aenter__()
    for slot in slots:
        slot.throttled(0.0)
        await slot.__aexit__(None, None, None)
    assert [moment.reason for moment in moments] == ["start", "throttled"]
    assert limiter.limit == 32


async def test_nobody_goes_on_before_the_server_said_so() -> None:
    limiter = Limiter(lambda _: None)
    async with limiter.request() as slot:
        slot.throttled(0.3)
    began = time.monotonic()
    async with limiter.request():
        assert time.monotonic() - began >= 0.29


async def test_the_limit_never_falls_below_one_or_rises_beyond_the_most() -> None:
    limiter = Limiter(lambda _: None, start=50, most=3)
    assert limiter.limit == 3
    for _ in range(5):
        async with limiter.request() as slot:
            slot.silent()
    assert limiter.limit == 1
    await demand(limiter, Server(100), 200, 20)
    assert limiter.limit == 3


async def test_a_request_that_is_given_up_leaves_its_place() -> None:
    limiter = Limiter(lambda _: None, start=1)
    async with limiter.request():
        waiting = asyncio.create_task(demand(limiter, Server(9), 1, 1))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(5):
        await demand(limiter, Server(9), 3, 3)


async def test_a_turn_that_came_while_being_cancelled_is_passed_on() -> None:
    limiter = Limiter(lambda _: None, start=1)
    first = limiter.request()
    await first.__aenter__()
    second = asyncio.create_task(limiter.request().__aenter__())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    async with asyncio.timeout(5), limiter.request():
        pass


async def test_a_spent_budget_stops_who_waited() -> None:
    left = [2]

    def check() -> None:
        if not left[0]:
            raise BudgetError("used up")
        left[0] -= 1

    limiter = Limiter(lambda _: None, check, start=3, most=3)
    for _ in range(2):
        async with limiter.request():
            pass
    for _ in range(4):
        with pytest.raises(BudgetError):
            async with limiter.request():
                pytest.fail("the request was sent")
    left[0] = 3
    server = Server(99)
    await demand(limiter, server, 3, 3)
    assert server.most == 3, "those who were refused have left their places"
