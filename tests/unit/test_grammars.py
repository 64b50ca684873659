"""Grammars before the engine gets them: fair turns, and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.compiler import Compiler

from core.errors import Unavailable
from core.ids import TenantId
from server.engine.grammars import Grammar, Grammars, Verdict
from server.engine.turns import Turns

A, B, C = TenantId("ten_a"), TenantId("ten_b"), TenantId("ten_c")


def text(number: int) -> Grammar:
    return Grammar("regex", str(number))


@asynccontextmanager
async def held(compiler: Compiler) -> AsyncIterator[None]:
    """Compiling waits until the block ends."""
    compiler.go.clear()
    try:
        yield
    finally:
        compiler.go.set()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_grammar_is_compiled_once_while_it_is_remembered() -> None:
    compiler = Compiler({text(2): Verdict("it is odd")})
    grammars = Grammars(compiler, kept=2)
    for _ in range(3):
        assert (await grammars.verdict(A, text(1))).fault is None
        assert (await grammars.verdict(B, text(2))).fault == "it is odd"
    assert compiler.compiled == [text(1), text(2)]
    await grammars.verdict(A, text(3))
    await grammars.verdict(A, text(1))  # forgotten: two are remembered
    assert compiler.compiled == [text(1), text(2), text(3), text(1)]


async def test_no_more_is_remembered_than_the_engine_has_room_for() -> None:
    compiler = Compiler({text(n): Verdict(size_bytes=60) for n in range(3)})
    grammars = Grammars(compiler, kept_bytes=130)
    for number in (0, 1, 0, 2, 0, 1):
        await grammars.verdict(A, text(number))
    assert compiler.compiled == [text(0), text(1), text(2), text(1)]


async def test_what_took_too_much_may_be_tried_again() -> None:
    """It may have been the machine that was busy."""
    compiler = Compiler({text(1): Verdict("it takes too long", too_complex=True)})
    grammars = Grammars(compiler)
    assert (await grammars.verdict(A, text(1))).too_complex
    compiler.verdicts.clear()
    assert not (await grammars.verdict(A, text(1))).too_complex


async def test_without_a_compiler_everything_passes() -> None:
    grammars = Grammars(None)
    assert await grammars.verdict(A, text(1)) == Verdict()
    assert not grammars.judges


async def test_a_tenant_does_not_wait_behind_all_that_another_asked_for() -> None:
    compiler = Compiler()
    grammars = Grammars(compiler)
    async with held(compiler):
        asked = [asyncio.ensure_future(grammars.verdict(A, text(n))) for n in range(10)]
        await settle()
        asked.append(asyncio.ensure_future(grammars.verdict(B, text(99))))
        await settle()
    await asyncio.gather(*asked)
    assert compiler.compiled.index(text(99)) == 1  # after the one that was under way


async def test_three_who_ask_on_and_on_leave_every_fourth_turn_to_another() -> None:
    compiler = Compiler()
    grammars = Grammars(compiler)
    async with held(compiler):
        asked = [
            asyncio.ensure_future(grammars.verdict(who, Grammar("regex", f"{who} {n}")))
            for n in range(8)
            for who in (A, B, C)
        ]
        await settle()
        victim = TenantId("ten_victim")
        mine = [asyncio.ensure_future(grammars.verdict(victim, text(n))) for n in range(3)]
        await settle()
    await asyncio.gather(*asked, *mine)
    places = [compiler.compiled.index(text(n)) for n in range(3)]
    assert places[0] <= 4
    assert places[-1] <= 13


async def test_only_so_many_of_one_tenant_may_wait() -> None:
    compiler = Compiler()
    grammars = Grammars(compiler, waiting=2)
    async with held(compiler):
        asked = [asyncio.ensure_future(grammars.verdict(A, text(n))) for n in range(3)]
        await settle()
        with pytest.raises(Unavailable) as refused:
            await grammars.verdict(A, text(3))
        other = asyncio.ensure_future(grammars.verdict(B, text(4)))
        await settle()
    assert refused.value.code == "too_many_grammars"
    await asyncio.gather(*asked, other)
    await grammars.verdict(A, text(3))  # there is room again


@pytest.mark.parametrize("which", [0, 1])
async def test_one_whose_client_leaves_gives_its_place_to_the_next(which: int) -> None:
    """0: while it is compiled; 1: while it waits."""
    compiler = Compiler()
    grammars = Grammars(compiler)
    async with held(compiler):
        asked = [asyncio.ensure_future(grammars.verdict(A, text(n))) for n in range(3)]
        await settle()
        asked[which].cancel()
        await settle()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[which], asyncio.CancelledError)
    assert [v for n, v in enumerate(found) if n != which] == [Verdict(), Verdict()]
    assert await grammars.verdict(B, text(7)) == Verdict()


async def test_a_place_given_to_one_that_leaves_in_that_moment_is_not_lost() -> None:
    turns = Turns(places=1, waiting=4)

    async def take() -> None:
        async with turns.turn(A):
            pass

    async with turns.turn(B):
        waits = asyncio.ensure_future(take())
        await settle()
    waits.cancel()  # its place was given when the block ended
    await asyncio.gather(waits, return_exceptions=True)
    async with asyncio.timeout(5):
        await take()


async def test_a_compiler_that_fails_costs_no_place() -> None:
    compiler = Compiler()
    grammars = Grammars(compiler)
    compiler.away = True
    for number in range(3):
        with pytest.raises(Unavailable):
            await grammars.verdict(A, text(number))
    compiler.away = False
    assert await grammars.verdict(A, text(0)) == Verdict()
