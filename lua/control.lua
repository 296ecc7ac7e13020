--[[
control: one act of an operator on a drop: create, launch, pause, resume, restock, amend, close.

What the act means is worked out in engine/drops/model.py; this script applies it when its revision is newer, and
writes it to the outbox in the same step. The fields are the whole definition, not a difference, so a partition that missed
an act is made right by the next one. The counters (serial, taken, dealt) are set when they are new and never touched again.
An epoch that was ended stays ended: only a rebuild lets a fenced drop decide again.

KEYS
  drop_key    HASH of the drop
  outbox_key  STREAM of the partition
  home_key    STRING of the partition
  prizes_key  STRING of the drop: its prizes in order; of an instant drop
ARGV
  home        the store's replication id, as the caller's connection has seen it
  drop_id     the drop's id, for the outbox entry
  revision    of this act; 1 creates
  act         random id of the act: the same act applied again is recognised by it
  control     the act as JSON, for the outbox entry
  prizes      the whole sequence of an instant drop (lua/claim.lua), else empty
  fields…     name, value, … of the drop's hash to set
Replies
  applied:<now, ms>  done by this call
  already            this very act was applied before: nothing was changed
  stale:<revision>   the drop is at this revision or a later one by another act
  not-ready          the drop's state is not there, or the store is not at home; it is never made again from here
Cost   one GET, one HGETALL, one HSET, one XADD, one SET of the prizes
Bound  the fields of one drop: at most 64 items, 256 waves, 256 allotments, about 15 kB; 50,000 prizes of 7 bytes
--]]
--@include _now
--@include _drop
--@include _is_home

local drop_key, outbox_key, home_key, prizes_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local home, drop_id, revision, act, control = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local prizes, fields = ARGV[6], {unpack(ARGV, 7)}

local now = _now()
if not _is_home(home_key, home) then
  return 'not-ready'
end
local drop = _drop(drop_key)
if drop then
  if drop.revision == revision and drop.act == act then
    return 'already'
  end
  if drop.revision >= revision then
    return 'stale:' .. drop.revision
  end
elseif revision ~= 1 or redis.call('EXISTS', drop_key) == 1 then
  return 'not-ready'
end

local items, allotments = 0, ''
for i = 1, #fields, 2 do
  if fields[i] == 'items' then
    items = tonumber(fields[i + 1])
  elseif fields[i] == 'allotments' then
    allotments = fields[i + 1]
  elseif fields[i] == 'epoch' and drop and drop.epoch > tonumber(fields[i + 1]) then
    fields[i + 1] = drop.epoch
  end
end
for item = 1, items do
  if not (drop and drop.taken[item]) then
    fields[#fields + 1] = 'taken:' .. item
    fields[#fields + 1] = 0
  end
end
for pair in string.gmatch(allotments, '(%d+:%d+):%d+:%d+') do
  if not (drop and drop['taken:' .. pair]) then
    fields[#fields + 1] = 'taken:' .. pair
    fields[#fields + 1] = 0
  end
end
for _, counter in ipairs({'serial', 'dealt'}) do
  if not drop then
    fields[#fields + 1] = counter
    fields[#fields + 1] = 0
  end
end

redis.call('XADD', outbox_key, '*', 'kind', 'control', 'drop', drop_id, 'at', string.format('%.0f', now),
  'revision', revision, 'control', control)
redis.call('HSET', drop_key, 'revision', revision, 'act', act, unpack(fields))
if #prizes > 0 then
  redis.call('SET', prizes_key, prizes)
end
return 'applied:' .. string.format('%.0f', now)
