-- Stores when the projection was complete. KEYS: marker. ARGV: feed, last, time, code.
local marker = redis.call('HMGET', KEYS[1], 'feed', 'last', 'checked')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local when, checked = tonumber(ARGV[3]), tonumber(marker[3] or '') or 0
if marker[1] ~= ARGV[1] or (tonumber(marker[2] or '') or -1) < tonumber(ARGV[2]) or when > now then
  return 0
end
-- A time that was written while the clock of Redis was ahead is ignored.
if when > checked or checked > now then
  redis.call('HSET', KEYS[1], 'checked', ARGV[3], 'upto', ARGV[2], 'proof', ARGV[4])
end
return 1
