"""Whatever happens, in whatever order: no write twice, none without its end, nobody told what is not so.

The machine asks, kills, blocks, silences and lets time pass at random; then all is healed and must come to rest.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.flow.cluster import APPOINTMENTS, GRANTED, PARTNERS, Asked, Cluster, Node
from tests.flow.fakes import SILENCE
from tests.flow.virtual_time import VirtualLoop

T = TypeVar("T")
Request = tuple[str, str, str | None, int]
MOST_NODES = 3
A_FEW = st.integers(0, 5)
A_WHILE = st.sampled_from([0.5, 3.0, 9.0])
SOME_STEPS = st.integers(0, 30) | st.just(100)
REQUESTS = st.tuples(
    st.sampled_from(PARTNERS), st.sampled_from(APPOINTMENTS), st.sampled_from(["k1", "k2", None]), st.integers(0, 2)
)
SILENCES = ("store", "mumble", "journal")
DEEDS = ("answer", "mute", "later", "refuse", "lose")


class Interleavings(RuleBasedStateMachine):
    """Two or three nodes, two appointments, two partners, few keys."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.cluster = Cluster()
        self.do(self.cluster.start())
        self.do(self.cluster.start())

    def do(self, story: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(story)

    def node(self, number: int) -> Node:
        return self.cluster.nodes[number % len(self.cluster.nodes)]

    @rule(number=A_FEW, request=REQUESTS, steps=SOME_STEPS)
    def ask(self, number: int, request: Request, steps: int) -> None:
        async def story() -> None:
            self.cluster.ask(self.node(number), *request)
            await some_steps(steps)

        self.do(story())

    @rule(number=A_FEW, request=REQUESTS, deed=st.sampled_from(DEEDS), steps=SOME_STEPS)
    def ask_and_let_pkb_decide(self, number: int, request: Request, deed: str, steps: int) -> None:
        async def story() -> None:
            asked = self.cluster.ask(self.node(number), *request)
            await self.until_sent(asked)
            self.cluster.box.decide(0, deed)
            await some_steps(steps)

        self.do(story())

    async def until_sent(self, asked: Asked) -> None:
        for _ in range(300):
            if asked.answer.done() or self.cluster.box.alive(self.loop.time()):
                return
            await asyncio.sleep(0.01)

    @precondition(lambda self: self.cluster.asked)
    @rule(number=A_FEW, which=st.integers(0, 1000), times=st.integers(1, 3), steps=SOME_STEPS)
    def ask_again(self, number: int, which: int, times: int, steps: int) -> None:
        async def story() -> None:
            asked = self.cluster.asked[which % len(self.cluster.asked)]
            for turn in range(times):
                self.cluster.ask(self.node(number + turn), *asked.request)
            await some_steps(steps)

        self.do(story())

    @precondition(lambda self: self.cluster.box.alive(self.loop.time()))
    @rule(number=A_FEW, deed=st.sampled_from(DEEDS), steps=SOME_STEPS)
    def let_pkb_decide(self, number: int, deed: str, steps: int) -> None:
        async def story() -> None:
            self.cluster.box.decide(number, deed)
            await some_steps(steps)

        self.do(story())

    @rule(steps=st.integers(1, 60))
    def go_on(self, steps: int) -> None:
        self.do(some_steps(steps))

    @rule(seconds=st.sampled_from([0.06, 0.6, 2.5, 7.0, 31.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    @precondition(lambda self: self.cluster.nodes)
    @rule(number=A_FEW, seen=st.booleans())
    def kill(self, number: int, seen: bool) -> None:
        node = self.node(number)
        self.cluster.nodes.remove(node)
        self.do(node.die(seen=seen))
        if not self.cluster.nodes:
            self.do(self.cluster.start())

    @precondition(lambda self: len(self.cluster.nodes) < MOST_NODES)
    @rule()
    def start(self) -> None:
        self.do(self.cluster.start())

    @rule(number=A_FEW)
    def lose_a_lease(self, number: int) -> None:
        names = sorted(self.cluster.cupboard.nodes)
        self.cluster.cupboard.nodes[names[number % len(names)]] = False

    @precondition(lambda self: len(self.cluster.nodes) <= MOST_NODES)
    @rule(
        number=A_FEW,
        request=REQUESTS,
        steps=st.integers(3, 30),
        what=st.sampled_from(["lease", *SILENCES]),
        deed=st.sampled_from(DEEDS),
    )
    def disturb_in_mid_write(self, number: int, request: Request, steps: int, what: str, deed: str) -> None:
        async def story() -> None:
            node = self.node(number)
            asked = self.cluster.ask(node, *request)
            await some_steps(steps)
            if what == "lease":
                self.cluster.cupboard.nodes[node.bench.shelf.node] = False
                await self.cluster.start()
            else:
                self.silence_for_a_while(node, what, 3.0)
            await self.until_sent(asked)
            self.cluster.box.decide(0, deed)

        self.do(story())

    @rule(id_=st.sampled_from(APPOINTMENTS))
    def relabel(self, id_: str) -> None:
        self.cluster.relabel(id_)

    @rule(seconds=A_WHILE)
    def block(self, seconds: float) -> None:
        self.cluster.govern(GRANTED.with_blocks(frozenset({(PARTNERS[0], None)})))
        self.loop.call_later(seconds, self.cluster.govern, GRANTED)

    @rule(number=A_FEW, what=st.sampled_from(SILENCES), seconds=A_WHILE)
    def silence(self, number: int, what: str, seconds: float) -> None:
        self.silence_for_a_while(self.node(number), what, seconds)

    def silence_for_a_while(self, node: Node, what: str, seconds: float) -> None:
        node.silence(what)
        self.loop.call_later(seconds, self.cluster.heard_again, node)

    @rule(seconds=A_WHILE)
    def hide_pkb(self, seconds: float) -> None:
        self.cluster.box.down = SILENCE
        self.loop.call_later(seconds, setattr, self.cluster.box, "down", None)

    @invariant()
    def nothing_is_sent_twice(self) -> None:
        async def check() -> None:
            self.cluster.check_messages()

        self.do(check())

    def teardown(self) -> None:
        try:
            self.do(self.end())
        finally:
            self.do(self.cluster.close())
            self.loop.close()

    async def end(self) -> None:
        cluster = self.cluster
        await cluster.heal()
        await cluster.come_to_rest()
        cluster.check_messages()
        cluster.check_records()
        cluster.check_answers()
        cluster.check_keys()
        await cluster.check_retries()
        assert cluster.faults == []


async def some_steps(steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)


def test_whatever_happens_every_write_is_done_once_and_ends_once() -> None:
    run_state_machine_as_test(
        Interleavings,
        settings=settings(max_examples=100, stateful_step_count=30, suppress_health_check=list(HealthCheck)),
    )
