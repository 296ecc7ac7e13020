"""The promise: a fault in the engine is noticed, by the check that guards what it breaks."""

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.mutation import LuaMutant, Mutant, catch, lua_catch
from tests.simulation.script_mutants import LUA_MUTANTS
from tests.simulation.world import World


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_broken_engine_is_noticed_and_the_whole_one_is_not(mutant: Mutant) -> None:
    caught = catch(mutant)
    assert caught is not None, f"{mutant.promise}: {mutant.check!r} has noticed nothing"
    assert World(caught.seed, mutant.plan).run().broken == []


@pytest.mark.parametrize("mutant", LUA_MUTANTS, ids=lambda mutant: f"{mutant.script}-{mutant.name.replace(' ', '-')}")
def test_a_broken_script_is_noticed(mutant: LuaMutant) -> None:
    """That the whole scripts pass the same test: tests/lua/test_scripts_against_model.py."""
    assert lua_catch(mutant) is not None, f"{mutant.promise}: nobody has noticed"
