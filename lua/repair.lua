--[[
repair: set fields of one hash to what the record says, if all of them still are as they were seen.

KEYS
  target_key  HASH of the drop, or of its claims
  home_key    STRING of the partition
ARGV
  home        the store's replication id, as the caller's connection has seen it
  fields…     field, value that was seen (empty: none), value to set; and again
Replies
  repaired    done by this call
  moved       something has changed since it was seen: look again
Cost   one GET, one HMGET, one HSET
Bound  100 fields
--]]
--@include _is_home

local target_key, home_key = KEYS[1], KEYS[2]
local home = ARGV[1]
local fields = {unpack(ARGV, 2)}

local names, wanted = {}, {}
for i = 1, #fields, 3 do
  names[#names + 1] = fields[i]
  wanted[#wanted + 1] = fields[i]
  wanted[#wanted + 1] = fields[i + 2]
end
if not _is_home(home_key, home) then
  return 'moved'
end
local found = redis.call('HMGET', target_key, unpack(names))
for i = 1, #names do
  if (found[i] or '') ~= fields[i * 3 - 1] then
    return 'moved'
  end
end
redis.call('HSET', target_key, unpack(wanted))
return 'repaired'
