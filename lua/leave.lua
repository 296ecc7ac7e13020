--[[
leave: take a reader that is done out of the outbox's group, unless it still has something to write.

A consumer that is deleted takes its pending entries along, and nobody would ever write them. So the question and the
act are one step: no read of the same consumer, nor one that was sent before and comes late, falls between them.

KEYS
  outbox_key  STREAM of the partition
ARGV
  group       the group of the readers
  consumer    which of them leaves
Replies
  left        it is not in the group, or no more
  pending     it has entries that nobody has acknowledged: it stays, and whoever takes them over finds them
Cost   one XPENDING of one entry, one XGROUP DELCONSUMER
Bound  one consumer
--]]
local outbox_key = KEYS[1]
local group, consumer = ARGV[1], ARGV[2]

if #redis.call('XPENDING', outbox_key, group, '-', '+', 1, consumer) > 0 then
  return 'pending'
end
redis.call('XGROUP', 'DELCONSUMER', outbox_key, group, consumer)
return 'left'
