-- Reads the projection from a number on. KEYS: marker, rows. ARGV: feed, after, most.
-- Answers its last number (-1: it is missing, or of another list), how many milliseconds
-- ago it was up to date, and rows.
local marker = redis.call('HMGET', KEYS[1], 'feed', 'last', 'checked')
if marker[1] ~= ARGV[1] then
  return {-1, 0, {}}
end
local time = redis.call('TIME')
local age = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(marker[3])
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], '+inf', 'LIMIT', 0, ARGV[3])
return {tonumber(marker[2]), age, rows}
