-- The clock of the tests: a key that the test sets, in milliseconds.
local function _now()
  return tonumber(redis.call('GET', 'test:now'))
end
