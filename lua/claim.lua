--[[
claim: decide a whole batch of claims on one drop in one partition.

Each request is decided in this order: state there, this nonce already decided, epoch, status, window,
expiry of the ticket, limit, stock. A state is there when it is whole, at home, and knows every serial that the caller
was told, or anybody who has said so; else nothing is decided by it, and that serial is kept for the rebuild.
Everything is read and checked before the first write, and no write can fail for what the state or the
arguments contain. The outbox entry is the first write: if even that one fails, nothing has happened.

KEYS
  drop_key    HASH of the drop
  claims_key  HASH subject -> packed claims
  outbox_key  STREAM of the partition
  home_key    STRING of the partition
  told_key    HASH of the partition
ARGV
  home        the store's replication id, as the caller's connection has seen it
  drop_id     the drop's id, for the outbox entry
  epoch       the epoch that the caller believes in
  told        the highest serial of this drop and partition that the caller was told
  requests…   per claim: window and request as in engine/claims/wire.py, item and quantity fixed; none only to say `told`
Replies
  now_ms, opens_ms, closes_ms, then for each request, in order,
    accepted: its serial, an integer
    otherwise a string that starts with the verdict's number and a colon:
      1:<the stored claim, 24 bytes>   2:  3:  4:<epoch>  5:<expired at, ms>  6:<opens at, ms>  7:  8:
      9:<units held>:<limit>   10:<units left>:<next wave at, ms, or 0>
Cost   one GET, one HGET, one HGETALL of about 12 fields, one HMGET, two HSET, one XADD a batch; about 2 µs a claim
Bound  512 requests (engine/bounds.py)
--]]
--@include _now
--@include _bytes
--@include _drop
--@include _is_home
--@include _released
--@include _verdict

local drop_key, claims_key, outbox_key, home_key, told_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local home, drop_id, epoch, told = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local requests = {unpack(ARGV, 5)}

local ENTRY_BYTES = 24
local NONCE_FIRST, NONCE_LAST, TOWN, MEMBER_LENGTH = 13, 20, 24, 26
local now = _now()
local drop = _is_home(home_key, home) and _drop(drop_key)
local replies = {now, drop and drop.opens_ms or 0, drop and drop.closes_ms or 0}

local told_to_any = tonumber(redis.call('HGET', told_key, drop_id)) or 0
if not drop or told > drop.serial or told_to_any > drop.serial then
  for i = 1, #requests do
    replies[i + 3] = VERDICT.not_ready .. ':'
  end
  if told > told_to_any then
    redis.call('HSET', told_key, drop_id, told)
  end
  return replies
end
if #requests == 0 then
  return replies
end

local byte, sub, floor = string.byte, string.sub, math.floor

local subjects = {}
for i = 1, #requests do
  local request = requests[i]
  local member_last = MEMBER_LENGTH + byte(request, MEMBER_LENGTH)
  if #request == member_last + 1 then
    subjects[i] = sub(request, MEMBER_LENGTH + 1, member_last)
  else
    subjects[i] = sub(request, member_last + 2)
  end
end

local held_by = {}
local values = redis.call('HMGET', claims_key, unpack(subjects))
for i = 1, #requests do
  held_by[subjects[i]] = values[i] or nil
end

-- What is already known of a nonce, and how many units the subject holds.
local function history(value, nonce)
  local units = 0
  for at = 1, #value, ENTRY_BYTES do
    if sub(value, at, at + 7) == nonce then
      return sub(value, at, at + ENTRY_BYTES - 1)
    end
    local high, low, is_released = byte(value, at + 13, at + 15)
    if is_released == 0 then
      units = units + high * 256 + low
    end
  end
  return nil, units
end

-- The verdict that holds for every new claim of this batch, whoever asks.
local shut
if epoch ~= drop.epoch or drop.fenced then
  shut = VERDICT.stale_epoch .. ':' .. drop.epoch
elseif drop.status == 'paused' then
  shut = VERDICT.paused .. ':'
elseif drop.status == 'closed' then
  shut = VERDICT.closed .. ':'
elseif drop.status ~= 'launched' or now < drop.opens_ms then
  shut = VERDICT.not_open .. ':' .. string.format('%.0f', drop.opens_ms)
elseif now >= drop.closes_ms then
  shut = VERDICT.closed .. ':'
end

local released, next_wave = _released(drop, now)
local taken, serial = drop.taken, drop.serial
local first_serial = serial + 1
local accepted, accepted_count, changed, taken_changed = {}, 0, {}, {}
local at_bytes = '\0' .. _bytes(now, 6)

local function decide(i)
  local request, subject = requests[i], subjects[i]
  local value = held_by[subject]
  local units = 0
  if value then
    local known
    known, units = history(value, sub(request, NONCE_FIRST, NONCE_LAST))
    if known then
      if byte(known, 16) == 1 then
        return VERDICT.claim_released .. ':'
      end
      return VERDICT.repeated .. ':' .. known
    end
  end
  if shut then
    return shut
  end
  -- One call for all bytes of the window: a call costs as much as reading six of them.
  local n1, n2, n3, n4, n5, n6, e1, e2, e3, e4, e5, e6 = byte(request, 1, 12)
  local expires = ((((e1 * 256 + e2) * 256 + e3) * 256 + e4) * 256 + e5) * 256 + e6
  if now >= expires then
    return VERDICT.ticket_expired .. ':' .. string.format('%.0f', expires)
  end
  local not_before = ((((n1 * 256 + n2) * 256 + n3) * 256 + n4) * 256 + n5) * 256 + n6
  if now < not_before then
    return VERDICT.not_open .. ':' .. string.format('%.0f', not_before)
  end
  local item, high, low = byte(request, 21, 23)
  local quantity = high * 256 + low
  if units + quantity > drop.limit then
    return VERDICT.limit_reached .. ':' .. units .. ':' .. drop.limit
  end
  local left = (released[item] or 0) - (taken[item] or 0)
  if left < quantity then
    return VERDICT.sold_out .. ':' .. left .. ':' .. string.format('%.0f', next_wave[item] or 0)
  end
  serial = serial + 1
  taken[item] = taken[item] + quantity
  taken_changed[item] = true
  -- Nonce, serial, item and quantity, not released, now, town and slogan.
  held_by[subject] = (value or '') .. sub(request, NONCE_FIRST, NONCE_LAST)
    .. string.char(floor(serial / 16777216), floor(serial / 65536) % 256, floor(serial / 256) % 256, serial % 256,
      item, high, low) .. at_bytes .. sub(request, TOWN, TOWN + 1)
  changed[subject] = true
  accepted_count = accepted_count + 1
  accepted[accepted_count] = sub(request, NONCE_FIRST)
  return serial
end

for i = 1, #requests do
  replies[i + 3] = decide(i)
end

if accepted_count > 0 then
  redis.call('XADD', outbox_key, '*', 'kind', 'claim', 'drop', drop_id, 'epoch', drop.epoch,
    'at', string.format('%.0f', now), 'serial', first_serial, 'claims', table.concat(accepted))
  local fields, count = {}, 0
  for subject in pairs(changed) do
    fields[count + 1] = subject
    fields[count + 2] = held_by[subject]
    count = count + 2
  end
  redis.call('HSET', claims_key, unpack(fields))
  local counters = {'serial', serial}
  for item in pairs(taken_changed) do
    counters[#counters + 1] = 'taken:' .. item
    counters[#counters + 1] = taken[item]
  end
  redis.call('HSET', drop_key, unpack(counters))
end
return replies
