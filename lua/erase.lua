--[[
erase: put claims of a drop under another subject, a pseudonym that stands for nobody. What they are stays: serials,
counters and the outbox know no subject. Done again it changes nothing more.

KEYS
  claims_key  HASH subject -> packed claims
  home_key    STRING of the partition
ARGV
  home        the store's replication id, as the caller's connection has seen it
  subject     whose claims they are
  pseudonym   whose they will be
  serials…    which claims
Replies
  erased      the subject has none of them any more
  not-ready   the store is not at home
Cost   one GET, one HMGET, one HSET, one HSET or HDEL
Bound  a subject's claims: at most 1,000 of 24 bytes
--]]
--@include _number
--@include _is_home

local claims_key, home_key = KEYS[1], KEYS[2]
local home, subject, pseudonym = ARGV[1], ARGV[2], ARGV[3]
local serials = {unpack(ARGV, 4)}

local ENTRY_BYTES = 24
if not _is_home(home_key, home) then
  return 'not-ready'
end
local found = redis.call('HMGET', claims_key, subject, pseudonym)
local value, there = found[1] or '', found[2] or ''

local wanted, is_there = {}, {}
for i = 1, #serials do
  wanted[tonumber(serials[i])] = true
end
for at = 1, #there, ENTRY_BYTES do
  is_there[_number(there, at + 8, at + 11)] = true
end
local kept, moved = {}, {}
for at = 1, #value, ENTRY_BYTES do
  local serial, entry = _number(value, at + 8, at + 11), string.sub(value, at, at + ENTRY_BYTES - 1)
  if not wanted[serial] then
    kept[#kept + 1] = entry
  elseif not is_there[serial] then
    moved[#moved + 1] = entry
  end
end

local rest = table.concat(kept)
if #rest == #value then
  return 'erased'
end
redis.call('HSET', claims_key, pseudonym, there .. table.concat(moved))
if rest == '' then
  redis.call('HDEL', claims_key, subject)
else
  redis.call('HSET', claims_key, subject, rest)
end
return 'erased'
