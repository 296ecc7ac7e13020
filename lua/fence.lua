--[[
fence: end an epoch of a drop. From now on every claim and release is refused, whatever epoch it believes in, until this
partition is rebuilt: another one may be so before, and then the ledger has the next epoch already.

KEYS
  drop_key    HASH of the drop
ARGV
  epoch       the epoch that is to come
Replies
  fenced      done by this call, or before
  absent      there is no state to fence
  later       the state is of a later epoch
Cost   one HGET, one HSET
Bound  one field
--]]
local drop_key = KEYS[1]
local epoch = tonumber(ARGV[1])

local found = tonumber(redis.call('HGET', drop_key, 'epoch'))
if not found then
  return 'absent'
end
if found > epoch then
  return 'later'
end
redis.call('HSET', drop_key, 'epoch', epoch, 'fenced', 1)
return 'fenced'
