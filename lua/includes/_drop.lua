-- The drop's hash as a table of its fields; nil when the state is not there or not whole: then nothing may be decided.
local function _drop(key)
  local flat = redis.call('HGETALL', key)
  local drop = {}
  for i = 1, #flat, 2 do
    drop[flat[i]] = flat[i + 1]
  end
  if not (drop.status and drop.waves and drop.allotments and drop.family and drop.scopes) then
    return nil
  end
  for _, field in ipairs({'epoch', 'revision', 'opens_ms', 'closes_ms', 'limit', 'items', 'serial', 'prizes', 'dealt'}) do
    drop[field] = tonumber(drop[field])
    if not drop[field] then
      return nil
    end
  end
  drop.taken = {}
  for item = 1, drop.items do
    drop.taken[item] = tonumber(drop['taken:' .. item])
    if not drop.taken[item] then
      return nil
    end
  end
  if drop.allotments ~= '' then
    for pair in string.gmatch(drop.allotments, '(%d+:%d+):%d+:%d+') do
      local counter = 'taken:' .. pair
      drop[counter] = tonumber(drop[counter])
      if not drop[counter] then
        return nil
      end
    end
  end
  return drop
end
