-- The verdicts, numbered as in engine/claims/model.py (a test compares them).
local VERDICT = {
  accepted = 0,
  repeated = 1,
  not_ready = 2,
  claim_released = 3,
  stale_epoch = 4,
  ticket_expired = 5,
  not_open = 6,
  paused = 7,
  closed = 8,
  limit_reached = 9,
  sold_out = 10,
  campaign_limit_reached = 11,
}
