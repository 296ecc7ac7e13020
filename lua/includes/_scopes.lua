-- The limits that span drops, each with the period that `now` lies in: kind, limit, since (ms), till (ms).
-- `kind:limit:start,length;start,length;…` joined by `|`: from each start on, periods of that length follow each other
-- until the next start. So the time zone, with its changes of offset, is worked out beforehand (engine/campaigns/).
local function _scopes(text, now)
  local scopes = {}
  if text == '' then
    return scopes
  end
  for kind, limit, runs in string.gmatch(text, '(%d+):(%d+):([^|]+)') do
    local since, till = 0, nil
    for start, length in string.gmatch(runs, '(%d+),(%d+)') do
      start, length = tonumber(start), tonumber(length)
      if start <= now then
        since = start + math.floor((now - start) / length) * length
        till = since + length
      elseif not till or start < till then
        till = start
      end
    end
    scopes[#scopes + 1] = {kind = tonumber(kind), limit = tonumber(limit), since = since, till = till}
  end
  return scopes
end
