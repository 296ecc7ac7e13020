--[[
release: give a claim's units back to its drop, exactly once. The claim keeps its nonce, so its ticket never claims again.

KEYS
  drop_key    HASH of the drop
  claims_key  HASH subject -> packed claims
  outbox_key  STREAM of the partition
  home_key    STRING of the partition
  tally_key   HASH of the drop, town:slogan -> units
ARGV
  home        the store's replication id, as the caller's connection has seen it
  drop_id     the drop's id, for the outbox entry
  epoch       the epoch that the caller believes in
  subject     whose claim it is
  serial      which claim it is
  reason      JSON of actor and reason, kept as it stands
Replies
  released:<now, ms>   given back by this call
  already              it was given back before: nothing was changed
  unknown              the subject has no claim with this serial
  not-ready            the drop's state is not there, or the store is not at home
  stale-epoch          the caller believes in another epoch
Cost   one GET, one HGETALL, two HGET, three HSET, one XADD
Bound  a subject's claims: at most 1,000 of 24 bytes
--]]
--@include _now
--@include _number
--@include _drop
--@include _is_home

local drop_key, claims_key, outbox_key, home_key, tally_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local home, drop_id, epoch, subject = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local serial, reason = tonumber(ARGV[5]), ARGV[6]

local ENTRY_BYTES = 24
local now = _now()
local drop = _is_home(home_key, home) and _drop(drop_key)
if not drop then
  return 'not-ready'
end
if epoch ~= drop.epoch or drop.fenced then
  return 'stale-epoch'
end
local value = redis.call('HGET', claims_key, subject) or ''
for at = 1, #value, ENTRY_BYTES do
  if _number(value, at + 8, at + 11) == serial then
    if string.byte(value, at + 15) == 1 then
      return 'already'
    end
    local item, quantity = string.byte(value, at + 12), _number(value, at + 13, at + 14)
    local town, slogan = string.byte(value, at + 22, at + 23)
    local tally, of_town = town .. ':' .. slogan, 'taken:' .. item .. ':' .. town
    local count = (town > 0 or slogan > 0) and redis.call('HGET', tally_key, tally)
    local counters = {'taken:' .. item, drop.taken[item] - quantity}
    if drop[of_town] then
      counters[3], counters[4] = of_town, drop[of_town] - quantity
    end
    redis.call('XADD', outbox_key, '*', 'kind', 'release', 'drop', drop_id, 'epoch', drop.epoch,
      'at', string.format('%.0f', now), 'serial', serial, 'item', item, 'quantity', quantity,
      'subject', subject, 'reason', reason)
    redis.call('HSET', claims_key, subject, string.sub(value, 1, at + 14) .. '\1' .. string.sub(value, at + 16))
    redis.call('HSET', drop_key, unpack(counters))
    if count then
      redis.call('HSET', tally_key, tally, count - quantity)
    end
    return 'released:' .. string.format('%.0f', now)
  end
end
return 'unknown'
