"""Cancelling a call of the asyncio client is never forgotten."""

import asyncio
import random

from voxpop.broker import AsyncClient

TRIES = 200


def test_a_cancelled_task_ends(server_url):
    """A cancellation that arrives together with a reply ends the task all the same."""

    async def forgotten():
        rng = random.Random(1)
        client = await AsyncClient.from_url(server_url)
        count = 0

        async def call_on_and_on():
            while True:
                await client.jobs()

        for _ in range(TRIES):
            task = asyncio.create_task(call_on_and_on())
            for _ in range(rng.randrange(60)):
                await asyncio.sleep(0)
            task.cancel()
            _, going_on = await asyncio.wait([task], timeout=1)
            count += len(going_on)
            for left in going_on:
                left.cancel()
                await asyncio.wait([left], timeout=1)
            if count:
                break
        await client.close()
        return count

    assert asyncio.run(forgotten()) == 0
