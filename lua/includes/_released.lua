-- Units released so far, and the time of the next wave (0: none), per item: a pure function of the waves and of now.
local function _released(drop, now)
  local released, next_wave = {}, {}
  for item = 1, drop.items do
    released[item], next_wave[item] = 0, 0
  end
  for at, item, quantity in string.gmatch(drop.waves, '(%d+):(%d+):(%d+)') do
    at, item = tonumber(at), tonumber(item)
    if at <= now then
      released[item] = released[item] + tonumber(quantity)
    elseif next_wave[item] == 0 or at < next_wave[item] then
      next_wave[item] = at
    end
  end
  return released, next_wave
end
