-- The script of `usual` and `nginx_lua`: one claim a call, as tutorials write it. No ticket, no outbox, no serials to prove.
local stock_key, members_key = KEYS[1], KEYS[2]
local member = ARGV[1]

if redis.call('SISMEMBER', members_key, member) == 1 then
  return -1
end
local left = tonumber(redis.call('GET', stock_key) or '0')
if left <= 0 then
  return -2
end
redis.call('SADD', members_key, member)
return redis.call('DECR', stock_key)
