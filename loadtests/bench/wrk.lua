-- Sends a plan's requests by wrk (https://github.com/wg/wrk), each token once; prints one line of JSON at the end.
local head, tail, tokens = "", "", {}
local at = 0

function init(arguments)
  head, tail = arguments[1], arguments[2]
  for token in io.lines(arguments[3]) do
    tokens[#tokens + 1] = token
  end
end

-- A request is put together when it is sent: hundreds of thousands of long texts at once take LuaJIT minutes to intern.
function request()
  at = at + 1
  return head .. (tokens[at] or tokens[#tokens]) .. tail
end

function done(summary, latency)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"seconds": %f, "requests": %d, "refused": %d, "broken": %d, "p50_ms": %f, "p99_ms": %f, "p999_ms": %f}\n',
    summary.duration / 1e6, summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
end
