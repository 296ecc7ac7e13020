"""Breaks the engine on purpose, and looks who notices: a part of a function's text is replaced, and it is run so."""

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import fakeredis
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

import lua
from tests.lua.store_machine import StoreMachine
from tests.simulation.plan import Kind, Plan
from tests.simulation.world import World

SEEDS_MAX = 600  # worlds of the right kind, after the one that is known to catch it
_SETTINGS = settings(
    max_examples=1_000,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    verbosity=Verbosity.quiet,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in the text of a function; `owner` is its class or module."""

    owner: Any
    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault in the engine: `check` is what must notice it, in a world of one of `kinds`; `seed` is known to do so."""

    name: str
    promise: str
    check: str
    edits: Sequence[Edit]
    seed: int = 0
    kinds: tuple[Kind, ...] = tuple(Kind)
    plan: Plan | None = None  # in place of the seed's own, for what is rare


@dataclass(frozen=True, slots=True)
class LuaMutant:
    """A fault in a script's text, which `machine` must notice."""

    name: str
    promise: str
    script: str
    old: str
    new: str
    machine: Any = StoreMachine


@dataclass(frozen=True, slots=True)
class Caught:
    """The seed, and every check that noticed."""

    seed: int
    checks: list[str]


def catch(mutant: Mutant) -> Caught | None:
    """The first world in which the mutant's check notices it; None when none does."""
    with applied(mutant.edits):
        seeds = chain((mutant.seed,), (seed for seed in range(mutant.seed + 1, mutant.seed + 20 * SEEDS_MAX)))
        worlds = 0
        for seed in seeds:
            world = World(seed, mutant.plan)
            if world.plan.kind not in mutant.kinds:
                world.loop.close()
                continue
            checks = sorted({said.partition(":")[0] for said in world.run().broken})
            if mutant.check in checks:
                return Caught(seed, checks)
            worlds += 1
            if worlds > SEEDS_MAX:
                break
    return None


@contextmanager
def applied(edits: Sequence[Edit]) -> Iterator[None]:
    """The engine with the edits, while it lasts."""
    before = [(edit.owner, edit.name, inspect.getattr_static(edit.owner, edit.name)) for edit in edits]
    try:
        for edit in edits:
            setattr(edit.owner, edit.name, _edited(edit))
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def _edited(edit: Edit) -> Any:
    function = getattr(edit.owner, edit.name)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(edit.old) >= 1, f"{edit.name} does not contain {edit.old!r}: the mutant is out of date"
    made: dict[str, Any] = {}
    exec(source.replace(edit.old, edit.new), function.__globals__, made)  # noqa: S102 (our own code, altered)
    return made[edit.name]


def lua_catch(mutant: LuaMutant) -> str | None:
    """What the property test says when a script is not as the model; None when it notices nothing."""

    def text_of(_machine: object, script: lua.Script) -> str:
        if script.name != mutant.script:
            return script.text
        assert mutant.old in script.text, f"{mutant.script} does not contain {mutant.old!r}"
        return script.text.replace(mutant.old, mutant.new)

    broken = type("Machine", (mutant.machine,), {"redis": fakeredis.FakeStrictRedis(), "text_of": text_of})
    try:
        run_state_machine_as_test(broken, settings=_SETTINGS)
    except Exception as error:  # noqa: BLE001 (whatever it says, it has noticed)
        return type(error).__name__
    return None
