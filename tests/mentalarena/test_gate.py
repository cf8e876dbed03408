"""Places for requests: never more than there are, first for who has furthest to go."""

import asyncio

import pytest

from mentalarena.gate import HEAD_START, Gate, Progress, progress


async def test_no_more_are_in_than_there_are_places() -> None:
    gate = Gate(2)
    most = 0

    async def ask() -> None:
        nonlocal most
        async with gate:
            most = max(most, gate.held)
            await asyncio.sleep(0)

    await asyncio.gather(*(ask() for _ in range(9)))
    assert most == 2
    assert gate.held == 0


async def test_who_has_had_far_fewer_answers_goes_first() -> None:
    gate = Gate(1)
    order: list[str] = []

    async def episode(name: str, answers: int) -> None:
        mine = Progress()
        mine.answers = answers
        progress.set(mine)
        async with gate:
            order.append(name)
        assert mine.answers == answers + 1

    async with gate:
        tasks = [
            asyncio.create_task(episode(name, answers))
            for name, answers in (("far", 9), ("new", 0), ("middle", 4), ("newer", 0))
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert (set(order[:2]), order[2:]) == ({"new", "newer"}, ["middle", "far"])


async def test_episodes_do_not_march_in_step() -> None:
    """In play at once, they come to their tenth answer a few at a time, and none is left behind."""
    gate = Gate(4)
    reached: list[int] = []
    done = [0] * 24

    async def episode(number: int) -> None:
        progress.set(Progress())
        for answer in range(20):
            async with gate:
                await asyncio.sleep(0)
            done[number] = answer + 1
            if answer == 9:
                reached.append(sum(done))
            assert max(done) - min(done) <= HEAD_START + 2

    await asyncio.gather(*(episode(number) for number in range(24)))
    # In step, the last would have its tenth within a round of 24 answers after the first.
    assert max(reached) - min(reached) > 2 * 24


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_a_place_is_not_lost_with_who_waited_for_it(after: int) -> None:
    gate = Gate(1)

    async def ask() -> None:
        async with gate:
            await asyncio.sleep(0)

    async with gate:
        waiting = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(0)
    for _ in range(after):
        await asyncio.sleep(0)
    # Perhaps just when its turn has come.
    waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.wait_for(ask(), 1)
    assert gate.held == 0


async def test_answers_on_their_way_to_the_store_are_bounded() -> None:
    gate = Gate(16)
    await gate.storing.acquire()
    await gate.storing.acquire()
    assert gate.storing.locked(), "one for eight places"
    assert not Gate(1).storing.locked(), "but one at least"
