-- Decides about several windows at once, decision by decision. It implements the same arithmetic as
-- `window.rs`.
--
-- KEYS: the window of each demand, decision by decision.
-- ARGV[1]: eight-byte integers, little-endian: the time in microseconds, 0 for the clock of Redis;
-- the minimum expiry of keys in milliseconds; then for each decision the mode (0: take, 1: peek)
-- and the number of demands; and for each demand limit, window, bucket, cost, and 1 if it is only
-- observed.
-- Returns such integers: for each decision 1 if it was admitted, and for each of its demands the
-- current count, 1 if it was exceeded, and how long to wait (-1: for ever).
--
-- A window is one string of doubles, which are exact up to 2^53. First the values that most
-- decisions need, so that they read and write no more: the newest time, the sum, the oldest bucket
-- with a count, the newest bucket and its count. Then the other buckets and their counts, oldest
-- first, which are needed when a bucket leaves the window.

local TAKE = 0
local MOST = 9007199254740991
local HEAD, PAIR = '<ddddd', '<dd'
local HEAD_SIZE, SIZE = 40, 16

local unpack, pack, sub, floor = struct.unpack, struct.pack, string.sub, math.floor
local asked = ARGV[1]
local now, stay, at = unpack('<i8i8', asked)
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local function restored_at(w, bucket) return (bucket + 1) * w.bucket - 1 + w.length end

-- Reads a complete window and skips counts that have left it. The rest is in `text` between `from`
-- and `to`, followed by the newest bucket, if there is one.
local function read_all(w)
  if w.text then return end
  w.text = redis.call('GET', w.key) or ''
  w.from, w.to = HEAD_SIZE + 1, #w.text
  while w.last do
    local bucket, count = w.last, w.count
    if w.from < w.to then bucket, count = unpack(PAIR, w.text, w.from) end
    w.first = bucket
    if restored_at(w, bucket) > w.newest then return end
    w.sum = w.sum - count
    if w.from < w.to then w.from = w.from + SIZE else w.last = nil end
  end
end

-- The current state of a window. It is written without counting only if the clock was set back.
local function read(key, length, bucket)
  -- Later fields are listed too, because growing a table reallocates it.
  local w = { key = key, length = length, bucket = bucket, newest = now, sum = 0, pending = 0,
    changed = false, first = nil, last = nil, count = nil, text = nil, from = nil, to = nil }
  local head = redis.call('GETRANGE', key, 0, HEAD_SIZE - 1)
  if head == '' then
    w.text, w.from, w.to = '', 1, 0
    return w
  end
  local newest
  newest, w.sum, w.first, w.last, w.count = unpack(HEAD, head)
  if now < newest - length then
    w.last, w.count = floor(now / bucket), w.sum
    w.first, w.text, w.from, w.to = w.last, '', 1, 0
    w.changed = true
    return w
  end
  if newest > now then w.newest = newest end
  if restored_at(w, w.first) <= w.newest then read_all(w) end
  return w
end

local function count(w, cost)
  cost = math.min(cost, MOST - w.sum)
  if cost == 0 then return end
  local bucket = floor(w.newest / w.bucket)
  if w.last ~= bucket then
    read_all(w)
    if w.last then
      w.text = sub(w.text, w.from, w.to) .. pack(PAIR, w.last, w.count)
      w.from, w.to = 1, #w.text
    else
      w.first = bucket
    end
    w.last, w.count = bucket, 0
  end
  w.count = w.count + cost
  w.sum = w.sum + cost
  w.changed = true
end

-- How long until a cost that does not fit will fit.
local function wait(w, most, cost)
  if cost > most then return -1 end
  local missing = w.sum + cost - most
  if missing <= 0 then return 0 end
  read_all(w)
  for from = w.from, w.to, SIZE do
    local bucket, count = unpack(PAIR, w.text, from)
    missing = missing - count
    if missing <= 0 then return restored_at(w, bucket) - now end
  end
  return restored_at(w, w.last) - now
end

local function next_restored(w)
  if not w.last then return 0 end
  return restored_at(w, w.first) - now
end

local function write(w)
  local head = pack(HEAD, w.newest, w.sum, w.first, w.last, w.count)
  if not w.text then
    -- The newest bucket has not changed, so the key's expiry stays.
    redis.call('SETRANGE', w.key, 0, head)
    return
  end
  local expiry = math.max(math.ceil((restored_at(w, w.last) - now) / 1000), stay, 1)
  redis.call('SET', w.key, head .. sub(w.text, w.from, w.to), 'PX', expiry)
end

local windows, answers, k = {}, {}, 0
while at <= #asked do
  local act, several
  act, several, at = unpack('<i8i8', asked, at)
  local demands, admitted = {}, 1
  for i = 1, several do
    k = k + 1
    local key = KEYS[k]
    local most, length, bucket, cost, observed
    most, length, bucket, cost, observed, at = unpack('<i8i8i8i8i8', asked, at)
    local w = windows[key]
    if not w then
      w = read(key, length, bucket)
      windows[key] = w
    end
    local fits = cost == 0 or w.sum + w.pending + cost <= most
    if fits or observed == 1 then
      w.pending = w.pending + cost
    else
      admitted = 0
    end
    demands[i] = { w = w, most = most, cost = cost, observed = observed, fits = fits }
  end
  for i = 1, several do
    local d = demands[i]
    local w = d.w
    w.pending = 0
    if act == TAKE and (admitted == 1 or d.observed == 1) then
      count(w, d.cost)
    end
  end
  answers[#answers + 1] = pack('<i8', admitted)
  for i = 1, several do
    local d = demands[i]
    local w = d.w
    if d.fits then
      answers[#answers + 1] = pack('<i8i8i8', w.sum, 0, next_restored(w))
    else
      answers[#answers + 1] = pack('<i8i8i8', w.sum, 1, wait(w, d.most, d.cost))
    end
  end
end
for _, w in pairs(windows) do
  if w.changed then write(w) end
end
return table.concat(answers)
