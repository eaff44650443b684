-- Replaces the projection by a new one, if its marker is still the one that the caller has read.
-- KEYS: marker, rows, new rows; marker and rows of versions without codes. ARGV: feed, last and
-- code of the marker that was read, empty if there was none; feed, last and code of the new one;
-- the number of rows; channel and message. Returns the time in milliseconds, or -1 if some of the
-- new rows are missing, or -2 if the marker has changed.
local marker = redis.call('HMGET', KEYS[1], 'feed', 'last', 'code')
for n = 1, 3 do
  if (marker[n] or '') ~= ARGV[n] then
    return -2
  end
end
if redis.call('ZCARD', KEYS[3]) ~= tonumber(ARGV[7]) then
  return -1
end
-- The commands that fail when the memory is full come first.
redis.call('HSET', KEYS[1], 'feed', ARGV[4], 'last', ARGV[5], 'code', ARGV[6],
  'checked', '0', 'upto', '0', 'proof', '')
redis.call('UNLINK', KEYS[2])
if tonumber(ARGV[7]) > 0 then
  redis.call('RENAME', KEYS[3], KEYS[2])
  redis.call('PERSIST', KEYS[2])
end
-- An older version that is still running will create them again.
redis.call('PEXPIRE', KEYS[4], 86400000)
redis.call('PEXPIRE', KEYS[5], 86400000)
redis.call('PUBLISH', ARGV[8], ARGV[9])
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
