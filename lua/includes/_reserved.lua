-- How many units of an item other towns still have in reserve: what their members have taken counts against it first.
local function _reserved(drop, allotted, item, town)
  local units = 0
  for other, allotment in pairs(allotted) do
    if other ~= town then
      units = units + math.max(0, allotment - drop['taken:' .. item .. ':' .. other])
    end
  end
  return units
end
