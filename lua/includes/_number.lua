-- Big-endian numbers in byte strings, with arithmetic alone: fakeredis has no struct library.
local function _number(text, first, last)
  local value = 0
  for i = first, last do
    value = value * 256 + string.byte(text, i)
  end
  return value
end
