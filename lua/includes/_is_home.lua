-- Whether this is the store that was last compared with the ledger: after a restart, a failover or a copy it is another
-- one, and decides nothing until the worker has looked at it (engine/ledger/homecoming.py).
local function _is_home(home_key, home)
  return redis.call('GET', home_key) == home
end
