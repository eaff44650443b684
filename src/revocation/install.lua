-- Puts a new projection in place of what there is. KEYS: marker, rows, new rows. ARGV: feed,
-- last, how many rows, channel. Answers what time it is, in milliseconds, or -1 if the new
-- rows are not all there any more.
if redis.call('ZCARD', KEYS[3]) ~= tonumber(ARGV[3]) then
  return -1
end
-- First what a full memory forbids.
redis.call('HSET', KEYS[1], 'feed', ARGV[1], 'last', ARGV[2], 'checked', '0')
redis.call('UNLINK', KEYS[2])
if tonumber(ARGV[3]) > 0 then
  redis.call('RENAME', KEYS[3], KEYS[2])
  redis.call('PERSIST', KEYS[2])
end
redis.call('PUBLISH', ARGV[4], ARGV[2])
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
