-- Stock that is reserved for towns and has not flowed back yet, per item: town -> units, and when the next flows back.
-- `item:town:units:until_ms` joined by commas. What a town's members have taken counts against its own allotment first.
local function _allotments(drop, now)
  local reserved, flows_back = {}, {}
  if drop.allotments == '' then
    return reserved, flows_back
  end
  for item, town, units, till in string.gmatch(drop.allotments, '(%d+):(%d+):(%d+):(%d+)') do
    item, town, till = tonumber(item), tonumber(town), tonumber(till)
    if now < till then
      reserved[item] = reserved[item] or {}
      reserved[item][town] = tonumber(units)
      if not flows_back[item] or till < flows_back[item] then
        flows_back[item] = till
      end
    end
  end
  return reserved, flows_back
end
