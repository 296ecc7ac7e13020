--[[
admit: count a batch of requests in their buckets, and say which of them come too soon.

A bucket is when its next request is due at the steady rate (GCRA, see engine/rates/model.py). A request spends from its
buckets in order, up to the first that has no room. This runs on a store of its own, which may forget everything.

KEYS
  buckets…   STRING: when the next request is due, µs since 1970
ARGV
  requests…  per request: `place:interval:slack` of each of its buckets, joined by commas; the place is among the keys,
             the times are in µs
Replies
  for each request, in order: 0 when it is admitted, else
    <which of its buckets, from 0>:<µs until it has room>
Cost   one MGET; one SET for each bucket that was spent from
Bound  512 requests (engine/bounds.py) of three buckets
--]]
--@include _now

local buckets = {unpack(KEYS, 1)}
local requests = {unpack(ARGV, 1)}

local now = _now() * 1000
local due = redis.call('MGET', unpack(buckets))
local spent = {}

local function decide(request)
  local nth = 0
  for place, interval, slack in string.gmatch(request, '(%d+):(%d+):(%d+)') do
    place, interval, slack = tonumber(place), tonumber(interval), tonumber(slack)
    local ahead = math.max(tonumber(due[place] or 0) - now, 0)
    if ahead > slack + interval then
      ahead = 0 -- no request at this rate and by this clock has put it there
    end
    if ahead > slack then
      return nth .. ':' .. string.format('%.0f', ahead - slack)
    end
    due[place] = now + ahead + interval
    spent[place] = true
    nth = nth + 1
  end
  return 0
end

local replies = {}
for i = 1, #requests do
  replies[i] = decide(requests[i])
end

for place in pairs(spent) do
  local left_ms = math.ceil((due[place] - now) / 1000)
  redis.call('SET', buckets[place], string.format('%.0f', due[place]), 'PX', left_ms)
end
return replies
