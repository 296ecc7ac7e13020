-- The store's clock in milliseconds since 1970: the one clock that decides. Tests swap this file for a settable clock.
local function _now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
