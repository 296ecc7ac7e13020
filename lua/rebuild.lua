--[[
rebuild: put a state made from the ledger in the place of whatever is there, under a new epoch, in one step.

The claims were written under another key before (engine/ledger/rebuild.py); until this step nothing that decides can see
them, after it nothing of the old state is left. The store need not be at home: a rebuild is how it comes home. But a
state that is there must be fenced for it: one that is not may have decided since the new one was worked out.

KEYS
  drop_key    HASH of the drop
  claims_key  HASH subject -> packed claims
  outbox_key  STREAM of the partition
  told_key    HASH of the partition
  made_key    HASH subject -> packed claims, as made from the ledger; absent when there are none
  tally_key   HASH of the drop, town:slogan -> units
  prizes_key  STRING of the drop: its prizes in order; of an instant drop
ARGV
  drop_id     the drop's id, for the outbox entry
  revision    of this act
  act         random id of the act
  control     the act as JSON, for the outbox entry
  subjects    how many have claims in `made_key`
  prizes      the whole sequence of an instant drop (lua/claim.lua), else empty
  tallies     how many of the fields are tallies: the first ones
  fields…     name, value, … of the tallies, then of the drop's hash: all of them, counters too
Replies
  applied:<now, ms>  done by this call
  already            this very act was applied before: nothing was changed
  stale:<revision>   the drop is at this revision or a later one by another act
  told               somebody was told of a higher serial since the state was worked out: nothing was changed
  unmade             the store has lost what was made: nothing was changed
  unfenced           the state that is there is of another epoch than the one to come: nothing was changed
Cost   three HMGET fields, one HLEN, one HGET, one UNLINK, one RENAME, one XADD, two HSET, one SET: independent of the number of claims
Bound  the fields of one drop: at most 64 items, 256 waves, 256 allotments, about 15 kB; 1,600 tallies; 50,000 prizes of 7 bytes
--]]
--@include _now

local drop_key, claims_key, outbox_key, told_key, made_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tally_key, prizes_key = KEYS[6], KEYS[7]
local drop_id, revision, act, control = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local subjects, prizes, tallies, fields = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7]), {unpack(ARGV, 8)}

local now = _now()
local found = redis.call('HMGET', drop_key, 'revision', 'act', 'epoch')
local made = redis.call('HLEN', made_key)
local told = tonumber(redis.call('HGET', told_key, drop_id)) or 0
if tonumber(found[1]) == revision and found[2] == act then
  return 'already'
end
if (tonumber(found[1]) or 0) >= revision then
  return 'stale:' .. found[1]
end
if made ~= subjects then
  return 'unmade'
end
for i = tallies * 2 + 1, #fields, 2 do
  if fields[i] == 'serial' and told > tonumber(fields[i + 1]) then
    return 'told'
  end
  if fields[i] == 'epoch' and found[3] and found[3] ~= fields[i + 1] then
    return 'unfenced'
  end
end

redis.call('XADD', outbox_key, '*', 'kind', 'control', 'drop', drop_id, 'at', string.format('%.0f', now),
  'revision', revision, 'control', control)
redis.call('UNLINK', drop_key, claims_key, tally_key)
redis.call('HSET', drop_key, 'revision', revision, 'act', act, unpack(fields, tallies * 2 + 1))
if tallies > 0 then
  redis.call('HSET', tally_key, unpack(fields, 1, tallies * 2))
end
if #prizes > 0 then
  redis.call('SET', prizes_key, prizes)
end
if made > 0 then
  redis.call('RENAME', made_key, claims_key)
end
redis.call('HDEL', told_key, drop_id)
return 'applied:' .. string.format('%.0f', now)
