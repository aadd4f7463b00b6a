"""Equal questions at once are asked once, and nobody's end is another's."""

import asyncio

import pytest

from meshkit.together import Together


class Oracle:
    """Answers when told to; counts questions."""

    def __init__(self) -> None:
        self.asked_count = 0
        self.may_answer = asyncio.Event()

    async def answer(self) -> int:
        self.asked_count += 1
        await self.may_answer.wait()
        return self.asked_count


async def begun(oracle: Oracle) -> None:
    async with asyncio.timeout(10):
        while not oracle.asked_count:
            await asyncio.sleep(0)


async def test_all_that_ask_while_one_is_under_way_get_its_answer():
    oracle, together = Oracle(), Together()
    asking = [asyncio.create_task(together.ask("key", oracle.answer)) for _ in range(100)]
    await begun(oracle)
    oracle.may_answer.set()
    assert await asyncio.gather(*asking) == [1] * 100
    assert await together.ask("key", oracle.answer) == 2


async def test_other_keys_are_other_questions():
    oracle, together = Oracle(), Together()
    oracle.may_answer.set()
    await asyncio.gather(together.ask("a", oracle.answer), together.ask("b", oracle.answer))
    assert oracle.asked_count == 2


async def test_who_is_cancelled_ends_nothing_for_the_others():
    oracle, together = Oracle(), Together()
    first = asyncio.create_task(together.ask("key", oracle.answer))
    await begun(oracle)
    second = asyncio.create_task(together.ask("key", oracle.answer))
    first.cancel()
    await asyncio.wait({first})
    oracle.may_answer.set()
    assert await second == 1


async def test_a_failure_reaches_all_who_wait_and_no_later_one():
    together: Together[str, int] = Together()

    async def fail() -> int:
        raise ValueError("no")

    async def work() -> int:
        return 5

    results = await asyncio.gather(*(together.ask("key", fail) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    assert await together.ask("key", work) == 5
    with pytest.raises(ValueError):
        await together.ask("key", fail)


async def test_one_that_has_just_ended_is_not_under_way():
    """Else whoever asks in a loop until the question is its own never yields, and so never sees it end."""
    together: Together[str, int] = Together()
    late: list[asyncio.Task[tuple[int, bool]]] = []

    async def second() -> int:
        return 2

    async def first() -> int:
        # Runs behind this question's end and ahead of its callbacks.
        late.append(asyncio.create_task(together.ask_once("key", second)))
        return 1

    assert await together.ask_once("key", first) == (1, True)
    assert await late[0] == (2, True)
