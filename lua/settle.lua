--[[
settle: let a store decide, now that its state was compared with the ledger.

KEYS
  home_key    STRING of the partition
ARGV
  home        the store's replication id, as the caller's connection has seen it
  compared    the replication id of the store that was compared
Replies
  settled     this store is at home now
  other       it is not the store that was compared: compare this one
Cost   one SET
Bound  one key
--]]
local home_key = KEYS[1]
local home, compared = ARGV[1], ARGV[2]

if home ~= compared then
  return 'other'
end
redis.call('SET', home_key, home)
return 'settled'
