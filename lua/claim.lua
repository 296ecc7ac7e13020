--[[
claim: decide a whole batch of claims on one drop in one partition.

Each request is decided in this order: state there, this nonce already decided, epoch, status, window,
expiry of the ticket, limit, limits of the campaign, stock. A state is there when it is whole, at home, and knows every
serial that the caller was told, or anybody who has said so; else nothing is decided by it, and that serial is kept for
the rebuild. The limits of a campaign count the claims on all its drops, the drop's family: they are read where they lie.
On an instant drop a claim is a play: it gets the next prize of the committed sequence if that one's moment has come,
else the drop's last item, the blank.
Everything is read and checked before the first write, and no write can fail for what the state or the
arguments contain. The outbox entry is the first write: if even that one fails, nothing has happened.

KEYS
  drop_key    HASH of the drop
  claims_key  HASH subject -> packed claims
  outbox_key  STREAM of the partition
  home_key    STRING of the partition
  told_key    HASH of the partition
  tally_key   HASH of the drop, town:slogan -> units
  prizes_key  STRING of the drop: its prizes in order, each moment, ms (6 bytes) and item (1); of an instant drop
  family…     of each other drop whose claims count together with this one's: drop_key, claims_key
ARGV
  home        the store's replication id, as the caller's connection has seen it
  drop_id     the drop's id, for the outbox entry
  epoch       the epoch that the caller believes in
  told        the highest serial of this drop and partition that the caller was told
  relatives   the ids of the family's other drops, joined by commas, as the caller knows them
  requests…   per claim: window and request as in engine/claims/wire.py, item and quantity fixed; none only to say `told`
Replies
  now_ms, opens_ms, closes_ms, then for each request, in order,
    accepted: its serial, an integer
    otherwise a string that starts with the verdict's number and a colon:
      0:<serial>:<item>            accepted, with the item that the play got
      1:<the stored claim, 24 bytes>   2:  3:  4:<epoch>  5:<expired at, ms>  6:<opens at, ms>  7:  8:
      9:<units held>:<limit>   10:<units left>:<when more may come, ms, or 0>
      11:<kind of limit>:<units held>:<limit>:<until, ms>
Cost   one GET, one HGET, one HGETALL of about 15 fields, one HMGET, two HSET, one XADD a batch; about 2 µs a claim.
       HGETALL, HMGET and HGET again for each drop of a family, HMGET and HSET of as many tallies as there are in the batch
Bound  512 requests, 16 drops of a family, 64 items, 256 allotments (engine/bounds.py)
--]]
--@include _now
--@include _bytes
--@include _drop
--@include _is_home
--@include _allotments
--@include _number
--@include _released
--@include _reserved
--@include _scopes
--@include _verdict

local drop_key, claims_key, outbox_key, home_key, told_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tally_key, prizes_key, family = KEYS[6], KEYS[7], {unpack(KEYS, 8)}
local home, drop_id, epoch, told, relatives = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local requests = {unpack(ARGV, 6)}

local ENTRY_BYTES, PRIZE_BYTES = 24, 7
local NONCE_FIRST, NONCE_LAST, TOWN, MEMBER_LENGTH = 13, 20, 24, 26
local now = _now()
local drop = _is_home(home_key, home) and _drop(drop_key)
local replies = {now, drop and drop.opens_ms or 0, drop and drop.closes_ms or 0}

local told_to_any = tonumber(redis.call('HGET', told_key, drop_id)) or 0
local is_dealt = drop and drop.prizes > 0
local is_short = is_dealt and redis.call('STRLEN', prizes_key) ~= drop.prizes * PRIZE_BYTES
if not drop or is_short or told > drop.serial or told_to_any > drop.serial then
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

-- How many units of a subject's claims were claimed at a moment or later.
local function units_since(value, since)
  local units = 0
  for at = 1, #value, ENTRY_BYTES do
    local high, low, is_released = byte(value, at + 13, at + 15)
    if is_released == 0 and _number(value, at + 16, at + 21) >= since then
      units = units + high * 256 + low
    end
  end
  return units
end

-- What the subjects have claimed on the other drops of the family, drop by drop; nil where one of them is not there.
local function claimed_elsewhere()
  local found, ids = {}, {}
  if drop.family == '' then
    return found
  end
  for id in string.gmatch(drop.family, '[^,]+') do
    ids[#ids + 1] = id
  end
  for k = 1, #ids do
    local other = _drop(family[k * 2 - 1])
    local told_of_it = tonumber(redis.call('HGET', told_key, ids[k])) or 0
    if not other or other.fenced or told_of_it > other.serial then
      return nil
    end
    local by_subject = {}
    local theirs = redis.call('HMGET', family[k * 2], unpack(subjects))
    for i = 1, #requests do
      by_subject[subjects[i]] = theirs[i] or nil
    end
    found[k] = by_subject
  end
  return found
end

-- The verdict that holds for every new claim of this batch, whoever asks.
local scopes = _scopes(drop.scopes, now)
local is_family = relatives == drop.family
local elsewhere = is_family and claimed_elsewhere()
local shut
if epoch ~= drop.epoch or drop.fenced or not is_family then
  shut = VERDICT.stale_epoch .. ':' .. drop.epoch
elseif drop.status == 'paused' then
  shut = VERDICT.paused .. ':'
elseif drop.status == 'closed' then
  shut = VERDICT.closed .. ':'
elseif drop.status ~= 'launched' or now < drop.opens_ms then
  shut = VERDICT.not_open .. ':' .. string.format('%.0f', drop.opens_ms)
elseif now >= drop.closes_ms then
  shut = VERDICT.closed .. ':'
elseif not elsewhere then
  shut = VERDICT.not_ready .. ':'
end

local released, next_wave = _released(drop, now)
local allotted, flows_back = _allotments(drop, now)
local prizes = is_dealt and redis.call('GETRANGE', prizes_key, drop.dealt * PRIZE_BYTES,
  (drop.dealt + #requests) * PRIZE_BYTES - 1)
local taken, serial, dealt = drop.taken, drop.serial, drop.dealt
local first_serial = serial + 1
local accepted, accepted_count, changed, taken_changed, towns_changed, tallied = {}, 0, {}, {}, {}, {}
local at_bytes = '\0' .. _bytes(now, 6)
local end_bytes = at_bytes .. '\0\0'  -- of a claim without town and slogan

-- The campaign's limit that a claim would pass, as its verdict; nil when it passes none.
local function passed_scope(subject, quantity)
  for _, scope in ipairs(scopes) do
    local units = units_since(held_by[subject] or '', scope.since)
    for k = 1, #elsewhere do
      units = units + units_since(elsewhere[k][subject] or '', scope.since)
    end
    if units + quantity > scope.limit then
      return VERDICT.campaign_limit_reached .. ':' .. scope.kind .. ':' .. units .. ':' .. scope.limit .. ':'
        .. string.format('%.0f', scope.till)
    end
  end
end

-- What a play gets: the next prize, if its moment has come, else the blank.
local function deal()
  local at = (dealt - drop.dealt) * PRIZE_BYTES + 1
  if at < #prizes and _number(prizes, at, at + 5) <= now then
    local item = byte(prizes, at + 6)
    if (released[item] or 0) > (taken[item] or 0) then
      return item
    end
  end
  return drop.items
end

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
  local item, high, low, town, slogan = byte(request, 21, 25)
  local quantity = high * 256 + low
  if is_dealt then
    item, high, low, quantity = drop.items, 0, 1, 1
  end
  if units + quantity > drop.limit then
    return VERDICT.limit_reached .. ':' .. units .. ':' .. drop.limit
  end
  local passed = scopes[1] and passed_scope(subject, quantity)
  if passed then
    return passed
  end
  if is_dealt then
    item = deal()
  end
  local left = (released[item] or 0) - (taken[item] or 0)
  if allotted[item] then
    left = left - _reserved(drop, allotted[item], item, town)
  end
  if left < quantity then
    local wave, back = next_wave[item] or 0, flows_back[item] or 0
    local more = (wave == 0 or back == 0) and wave + back or math.min(wave, back)
    return VERDICT.sold_out .. ':' .. math.max(0, left) .. ':' .. string.format('%.0f', more)
  end
  serial = serial + 1
  taken[item] = taken[item] + quantity
  taken_changed[item] = true
  if is_dealt and item ~= drop.items then
    dealt = dealt + 1
  end
  local tail = end_bytes
  if town > 0 or slogan > 0 then
    tail = at_bytes .. sub(request, TOWN, TOWN + 1)
    local tally, of_town = town .. ':' .. slogan, 'taken:' .. item .. ':' .. town
    tallied[tally] = (tallied[tally] or 0) + quantity
    if drop[of_town] then
      drop[of_town] = drop[of_town] + quantity
      towns_changed[of_town] = true
    end
  end
  -- Nonce, serial, item and quantity, not released, now, town and slogan.
  held_by[subject] = (value or '') .. sub(request, NONCE_FIRST, NONCE_LAST)
    .. string.char(floor(serial / 16777216), floor(serial / 65536) % 256, floor(serial / 256) % 256, serial % 256,
      item, high, low) .. tail
  changed[subject] = true
  accepted_count = accepted_count + 1
  if is_dealt then
    accepted[accepted_count] = sub(request, NONCE_FIRST, NONCE_LAST) .. string.char(item, high, low) .. sub(request, TOWN)
    return VERDICT.accepted .. ':' .. serial .. ':' .. item
  end
  accepted[accepted_count] = sub(request, NONCE_FIRST)
  return serial
end

for i = 1, #requests do
  replies[i + 3] = decide(i)
end

if accepted_count > 0 then
  local tallies = {}
  for tally in pairs(tallied) do
    tallies[#tallies + 1] = tally
  end
  local counts = #tallies > 0 and redis.call('HMGET', tally_key, unpack(tallies))
  redis.call('XADD', outbox_key, '*', 'kind', 'claim', 'drop', drop_id, 'epoch', drop.epoch,
    'at', string.format('%.0f', now), 'serial', first_serial, 'claims', table.concat(accepted))
  local fields, count = {}, 0
  for subject in pairs(changed) do
    fields[count + 1] = subject
    fields[count + 2] = held_by[subject]
    count = count + 2
  end
  redis.call('HSET', claims_key, unpack(fields))
  fields = is_dealt and {'serial', serial, 'dealt', dealt} or {'serial', serial}
  for item in pairs(taken_changed) do
    fields[#fields + 1] = 'taken:' .. item
    fields[#fields + 1] = taken[item]
  end
  for of_town in pairs(towns_changed) do
    fields[#fields + 1] = of_town
    fields[#fields + 1] = drop[of_town]
  end
  redis.call('HSET', drop_key, unpack(fields))
  fields = {}
  for i, tally in ipairs(tallies) do
    fields[#fields + 1] = tally
    fields[#fields + 1] = (tonumber(counts[i]) or 0) + tallied[tally]
  end
  if #fields > 0 then
    redis.call('HSET', tally_key, unpack(fields))
  end
end
return replies
