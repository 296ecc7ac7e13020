-- A number as `width` big-endian bytes.
local function _bytes(value, width)
  local bytes = {}
  for i = width, 1, -1 do
    bytes[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(bytes)
end
