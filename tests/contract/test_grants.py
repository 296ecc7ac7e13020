"""The promise: a ticket of a grant drop is given to whom a prize is offered, and to nobody else, on the gate too."""

from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.contract.front import Front
from tests.contract.line import request
from tests.factories.drawn import Drawn, names, recording


async def test_the_gate_asks_the_ledger_too(front: Front, stores: Stores, settings: Settings) -> None:
    """On the gate and on its twin: a ticket of a grant drop is a winner's alone."""
    async with recording(stores):
        drawn = Drawn(stores, settings)
        await drawn.whole(*names(6))
        won = await drawn.awards()
        path = "/v1/drops/goose-prizes/ticket"
        for _ in range(2):  # the drop is in the process's memory at the second time
            refused = await front.ask(request("POST", path, [front.bearer(won[3].member_id)]))
            assert (refused.status, refused.code) == (409, "no-award")
            assert (await front.ask(request("POST", path, [front.bearer(won[0].member_id)]))).status == 200
