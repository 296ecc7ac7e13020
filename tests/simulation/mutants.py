"""The faults that must be noticed: each breaks one promise of the engine, by a few words."""

from dataclasses import replace

from engine.claims import acts, admission, decide, service, store
from engine.claims.batcher import Batcher
from engine.ledger import remake
from engine.ledger.homecoming import Homecoming
from engine.ledger.persist import Outbox, Persister
from engine.ledger.plan import Plan as RebuildPlan
from engine.ledger.rebuild import Rebuild
from engine.ledger.reconcile import Reconciler
from tests.simulation.mutation import Edit, Mutant, catch, lua_catch
from tests.simulation.network import Weather
from tests.simulation.plan import Event, Kind, Plan
from tests.simulation.script_mutants import LUA_MUTANTS

_LOSING = (Kind.FAILOVER, Kind.EMPTIED)
# The store loses what the ledger has not, while the members are busy.
_FAILOVER_WITHOUT_WORKERS = Plan(
    kind=Kind.FAILOVER,
    partitions=1,
    apis=2,
    workers=1,
    people=40,
    stocks=[25],
    limit=3,
    has_second_wave=False,
    closes_s=7_200.0,
    weather=Weather(),
    sync_s_max=0.0,
    replica_lag_s=0.3,
    is_replicated=False,
    events=[Event(1.2, "workers"), Event(1.5, "failover")],
)
_NAMED_LATE = "named = home if known != home else named\n    if known == named == home:"
_OUTLIVED = replace(_FAILOVER_WITHOUT_WORKERS, replica_lag_s=0.0, stocks=[60], events=[Event(0.3, "outlived")])

MUTANTS = (
    Mutant(
        "no limit is checked",
        "never more than the limit",
        "never over the limit",
        [Edit(decide, "decide", "if units + quantity > state.limit:", "if False:")],
    ),
    Mutant(
        "the limit is one too high",
        "never more than the limit",
        "never over the limit",
        [Edit(decide, "decide", "> state.limit:", "> state.limit + 1:")],
    ),
    Mutant(
        "no stock is checked",
        "never more than the stock released so far",
        "never oversold",
        [Edit(decide, "decide", "if left < quantity:", "if False:")],
    ),
    Mutant(
        "the last unit is given twice",
        "never more than the stock released so far",
        "never oversold",
        [Edit(decide, "decide", "if left < quantity:", "if left + 1 < quantity:")],
    ),
    Mutant(
        "sold out is said too early",
        "sold out is true when said",
        "sold_out is true when said",
        [Edit(decide, "decide", "if left < quantity:", "if left <= quantity:")],
    ),
    Mutant(
        "a serial is given again",
        "serials have no gap and no double",
        "serials without gap or double",
        [Edit(decide, "_take", "state.serial += 1", "state.serial += request.nonce[0] % 4 > 0")],
    ),
    Mutant(
        "a refusal burns stock",
        "a refused claim burns nothing",
        "refused burns nothing",
        [
            Edit(
                decide,
                "decide",
                "return Decision(Verdict.LIMIT_REACHED",
                "state.taken[request.item] += 1\n        return Decision(Verdict.LIMIT_REACHED",
            )
        ],
    ),
    Mutant(
        "the epoch is forgotten",
        "a fenced store accepts nothing",
        "fenced store accepts nothing",
        [Edit(decide, "_shut", "caller.epoch != state.epoch or state.fenced", "False")],
        seed=68,
    ),
    Mutant(
        "the home is forgotten",
        "a store that was not compared decides nothing",
        "unready store decides",
        [Edit(decide.PartitionState, "at_home", " if home == self.home else None", "")],
    ),
    Mutant(
        "what was told is forgotten by the store",
        "a store that is behind decides nothing",
        "unready store decides",
        [Edit(decide, "decide_batch", " or told > state.serial", "")],
        kinds=(Kind.TAMPERED,),
        seed=152,
    ),
    Mutant(
        "the ticket is not looked up",
        "one ticket, one claim",
        "one ticket, one claim",
        [Edit(decide, "decide", "if known.nonce == request.nonce:", "if False:")],
    ),
    Mutant(
        "a pause is ignored",
        "no claim while paused",
        "claims only while launched",
        [Edit(decide, "_shut", "return Decision(Verdict.PAUSED)", "return None")],
    ),
    Mutant(
        "the window is ignored",
        "no claim outside the window",
        "claims only in the window",
        [  # a ticket ends with the window: only both together let one in
            Edit(decide, "_shut", "if now_ms >= state.closes_ms:", "if False:"),
            Edit(decide, "decide", "if now_ms >= window.expires_at_ms:", "if False:"),
        ],
        seed=71,
    ),
    Mutant(
        "a ticket's expiry is ignored",
        "an expired ticket never claims",
        "tickets expire",
        [Edit(decide, "decide", "if now_ms >= window.expires_at_ms:", "if False:")],
        seed=39,
    ),
    Mutant(
        "a claim is given back twice",
        "a released claim gives back once",
        "released gives back once",
        [Edit(decide, "release", "if known.released:", "if False:")],
        seed=165,
    ),
    Mutant(
        "a release gives nothing back",
        "a released claim gives back once",
        "released gives back once",
        [Edit(decide, "release", "state.taken[known.item] -= known.quantity", "pass")],
    ),
    Mutant(
        "an act lifts a fence",
        "a fenced store accepts nothing",
        "fenced store accepts nothing",
        [Edit(acts, "control", "state.epoch = max(epoch, state.epoch)", "state.fenced = False")],
        seed=544,
    ),
    Mutant(
        "acknowledged before the commit",
        "it reaches the ledger",
        "lost",
        [
            Edit(
                Persister,
                "_step",
                "await writer.commit()\n    await outbox.acknowledge([entry_id for entry_id, _ in entries])",
                "await outbox.acknowledge([entry_id for entry_id, _ in entries])\n    await writer.commit()",
            )
        ],
        seed=99,
    ),
    Mutant(
        "trimmed though pending",
        "trimmed only after commit",
        "trimmed only after commit",
        [Edit(Outbox, "trim", 'pending["min"] or group["last-delivered-id"]', 'group["last-delivered-id"]')],
    ),
    Mutant(
        "a commit that failed is not done again",
        "it reaches the ledger",
        "lost",
        [
            Edit(
                Persister,
                "_step",
                "await writer.commit()",
                "try:\n        await writer.commit()\n    except OSError:\n        pass",
            )
        ],
        seed=206,
    ),
    Mutant(
        "what a dead worker had read is left to it",
        "it reaches the ledger",
        "all recovers within a minute",
        [Edit(Outbox, "_take_over", "_, entries, _ = await", "return []\n    _, entries, _ = await")],
    ),
    Mutant(
        "the batcher loses the last waiter",
        "every waiter gets an answer",
        "every waiter is answered",
        [Edit(Batcher, "_tell", "enumerate(batch):", "enumerate(batch[: max(1, len(batch) - 1)]):")],
    ),
    Mutant(
        "the batcher answers the wrong one",
        "every waiter gets its answer",
        "an answer goes to who asked",
        [Edit(Batcher, "_tell", "answer_of(place)", "answer_of(0)")],
    ),
    Mutant(
        "a failing batch answers nobody",
        "every waiter gets an answer",
        "every waiter is answered",
        [Edit(Batcher, "_run", "answer_of = _always(error)", "return self._landed()")],
    ),
    Mutant(
        "a repeat is told another serial",
        "the same ticket is the same claim",
        "duplicate_serials",
        [Edit(store, "_decision", "known.serial, known.item", "known.serial + 1, known.item")],
    ),
    Mutant(
        "a receipt is for another quantity",
        "a receipt proves the claim",
        "a receipt says what was said",
        [Edit(admission.Answers, "_claim", "self._items[item - 1], quantity,", "self._items[item - 1], quantity + 1,")],
    ),
    Mutant(
        "a process forgets what it was told",
        "a store that is behind decides nothing",
        "duplicate_serials",
        [Edit(service.Claims, "_ask", "if batch.serial_max:", "if False:")],
        kinds=(Kind.FAILOVER,),
        seed=196,
    ),
    Mutant(
        "a process says only by claims what it was told",
        "no serial is given twice",
        "duplicate_serials",
        [Edit(service.Claims, "remind", "if home != known else ()", "if False else ()")],
        seed=468,
        plan=_FAILOVER_WITHOUT_WORKERS,
    ),
    Mutant(
        "a process stays with a store that was left behind",
        "no serial is given twice",
        "duplicate_serials",
        [
            Edit(service.Claims, "trust_none", 'await self._store.follow("")', "pass"),
            Edit(service.Claims, "_follow", "await self._store.follow(home)", "pass"),
        ],
        plan=_OUTLIVED,
    ),
    Mutant(
        "a store is named when it decides already",
        "no serial is given twice",
        "duplicate_serials",
        [Edit(Homecoming, "_look", "if known == named == home:", _NAMED_LATE)],
        seed=11,
        plan=_OUTLIVED,
    ),
    Mutant(
        "a rebuild forgets what was given back",
        "a rebuilt store equals the old one",
        "rebuilt equals old",
        [Edit(remake, "stored_claim", "is_released = row.released_at is not None", "is_released = False")],
    ),
    Mutant(
        "a rebuild begins after the ledger's last serial",
        "no serial is given twice",
        "duplicate_serials",
        [
            Edit(RebuildPlan, "add", 'serial_min = max(told, int(fields.get(b"serial", 0)))', "serial_min = 0"),
            Edit(acts, "rebuild", 'partition.told.get(drop_id, 0) > int(act.fields["serial"])', "False"),
            Edit(decide, "decide_batch", " or told > state.serial", ""),
        ],
        kinds=_LOSING,
        seed=1580,
    ),
    Mutant(
        "a rebuild does not fence first",
        "a rebuilt store equals the old one",
        "fenced before it is rebuilt",
        [
            Edit(Rebuild, "apply", "if not await self.fence():", "if False:"),
            Edit(acts, "rebuild", 'before.epoch != int(act.fields["epoch"])', "False"),
        ],
    ),
    Mutant(
        "a new store is let in without a look",
        "a store that is behind decides nothing",
        "mismatched",
        [
            Edit(Homecoming, "_bring_home", "told = int(", "return\n    told = int("),
            Edit(decide, "decide_batch", " or told > state.serial", ""),
        ],
        kinds=_LOSING,
        seed=292,
    ),
    Mutant(
        "the reconciler pauses nothing",
        "what cannot be repaired pauses the drop",
        "lost",
        [Edit(Reconciler, "_pause_drop", "if drop.status is Status.LAUNCHED:", "if False:")],
        kinds=(Kind.TAMPERED,),
    ),
    Mutant(
        "the reconciler believes the store",
        "repairs go toward the record",
        "counters_off",
        [Edit(Reconciler, "_recount", "record.of_item(item).issued", "taken")],
        kinds=(Kind.TAMPERED,),
        seed=93,
    ),
    Mutant(
        "the reconciler puts nothing back",
        "repairs go toward the record",
        "unknown_to_store",
        [Edit(Reconciler, "_put_back", "return await", "return True\n    return await")],
        kinds=(Kind.TAMPERED,),
    ),
    Mutant(
        "the reconciler counts given back claims as taken",
        "the reconciler finds nothing where nothing is wrong",
        "the reconciler finds nothing wrong",
        [Edit(Reconciler, "_record", "*returned.get(group, (0, 0))", "0")],
    ),
)


def table() -> int:
    """Print who notices what; 1 when something is not noticed."""
    missed = 0
    for mutant in MUTANTS:
        caught = catch(mutant)
        missed += caught is None
        seen = f"seed {caught.seed}: {', '.join(caught.checks)}" if caught else "NOT NOTICED"
        print(f"{mutant.name:52} | {mutant.promise:52} | {seen}", flush=True)
    for script in LUA_MUTANTS:
        said = lua_catch(script)
        missed += said is None
        name = f"{script.script}.lua: {script.name}"
        print(
            f"{name:52} | {script.promise:52} | {'the script is not as the model' if said else 'NOT NOTICED'}",
            flush=True,
        )
    print(f"{len(MUTANTS) + len(LUA_MUTANTS)} mutants, {missed} not noticed")
    return 1 if missed else 0
