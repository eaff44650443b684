-- One decision over several windows; `window.rs` says what they are and does the same.
--
-- KEYS: the window of each demand.
-- ARGV: what to do (0: take, 1: peek, 2: give back); the time in microseconds, 0 for Redis' own; how
-- long a key stays at least, in milliseconds; when that which is given back was counted;
-- then five for each demand: limit, window, bucket, cost, 1 if it is only observed.
-- Answers: 1 if admitted, the time, then three for each demand: what is counted now, 1 if
-- it was exceeded, how long to wait (-1: for ever).
--
-- A window is one string, so that it costs one read and one write: the newest time and the
-- sum, then a bucket and its count for each that holds something, oldest first; all of them
-- doubles, which are exact up to 2^53.

local TAKE, BACK = 0, 2
local MOST = 9007199254740991
local PAIR = '<dd'
local SIZE = 16

local act, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local stay, counted_at = tonumber(ARGV[3]), tonumber(ARGV[4])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function pair(a, b) return struct.pack(PAIR, a, b) end

local function demand(i)
  local at = 4 + (i - 1) * 5
  return {
    key = KEYS[i],
    most = tonumber(ARGV[at + 1]),
    window = tonumber(ARGV[at + 2]),
    bucket = tonumber(ARGV[at + 3]),
    cost = tonumber(ARGV[at + 4]),
    observed = ARGV[at + 5] == '1',
  }
end

local function bucket_at(d, time) return math.floor(time / d.bucket) end

local function restored_at(d, bucket) return (bucket + 1) * d.bucket - 1 + d.window end

-- Reads a window as it is now. Only a clock that was set back is a reason to write it again
-- without counting.
local function read(d)
  local text = redis.call('GET', d.key)
  local w = { newest = now, sum = 0, held = '', pending = 0, changed = false }
  if not text then return w end
  w.newest, w.sum = struct.unpack(PAIR, text)
  w.held = string.sub(text, SIZE + 1)
  if now < w.newest - d.window then
    w.newest = now
    w.held = pair(bucket_at(d, now), w.sum)
    w.changed = true
    return w
  end
  w.newest = math.max(now, w.newest)
  local from = 1
  while from <= #w.held do
    local bucket, count = struct.unpack(PAIR, w.held, from)
    if restored_at(d, bucket) > w.newest then break end
    w.sum = w.sum - count
    from = from + SIZE
  end
  w.held = string.sub(w.held, from)
  return w
end

local function count(d, w)
  local cost = math.min(d.cost, MOST - w.sum)
  if cost == 0 then return end
  local bucket = bucket_at(d, w.newest)
  local before = 0
  if #w.held > 0 then
    local last, held = struct.unpack(PAIR, w.held, #w.held - SIZE + 1)
    if last == bucket then
      before = held
      w.held = string.sub(w.held, 1, -SIZE - 1)
    end
  end
  w.held = w.held .. pair(bucket, before + cost)
  w.sum = w.sum + cost
  w.changed = true
end

local function give_back(d, w)
  local wanted = bucket_at(d, counted_at)
  for from = 1, #w.held, SIZE do
    local bucket, held = struct.unpack(PAIR, w.held, from)
    if bucket == wanted then
      local back = math.min(d.cost, held)
      local left = held > back and pair(bucket, held - back) or ''
      w.held = string.sub(w.held, 1, from - 1) .. left .. string.sub(w.held, from + SIZE)
      w.sum = w.sum - back
      w.changed = true
      return
    end
  end
end

local function wait(d, w)
  if d.cost > d.most then return -1 end
  local missing = w.sum + d.cost - d.most
  for from = 1, #w.held, SIZE do
    if missing <= 0 then return 0 end
    local bucket, held = struct.unpack(PAIR, w.held, from)
    missing = missing - held
    if missing <= 0 then return restored_at(d, bucket) - now end
  end
  return 0
end

local function next_restored(d, w)
  if #w.held == 0 then return 0 end
  return restored_at(d, (struct.unpack(PAIR, w.held))) - now
end

local function write(d, w)
  if #w.held == 0 then
    redis.call('DEL', d.key)
    return
  end
  local last = struct.unpack(PAIR, w.held, #w.held - SIZE + 1)
  local expiry = math.ceil((restored_at(d, last) - now) / 1000)
  local text = pair(w.newest, w.sum) .. w.held
  redis.call('SET', d.key, text, 'PX', string.format('%.0f', math.max(expiry, stay, 1)))
end

local demands, windows, exceeded, admitted = {}, {}, {}, true
for i = 1, #KEYS do
  local d = demand(i)
  local w = windows[d.key] or read(d)
  demands[i], windows[d.key] = d, w
  local fits = d.cost == 0 or w.sum + w.pending + d.cost <= d.most
  exceeded[i] = not fits
  if fits or d.observed then
    w.pending = w.pending + d.cost
  else
    admitted = false
  end
end

for i, d in ipairs(demands) do
  if act == BACK then
    give_back(d, windows[d.key])
  elseif act == TAKE and (admitted or d.observed) then
    count(d, windows[d.key])
  end
end

local answer = { admitted and 1 or 0, now }
for i, d in ipairs(demands) do
  local w = windows[d.key]
  if w.changed then
    write(d, w)
    w.changed = false
  end
  answer[#answer + 1] = w.sum
  answer[#answer + 1] = exceeded[i] and 1 or 0
  answer[#answer + 1] = exceeded[i] and wait(d, w) or next_restored(d, w)
end
return answer
