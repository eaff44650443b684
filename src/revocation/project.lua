-- Appends to the projection of the revocation list, if its marker is still the one that the caller
-- has verified. KEYS: marker, rows. ARGV: channel and message; feed, last and code of that marker;
-- the new last and code; the row of the old last, or empty, in two forms, by different keys; then
-- number and row of each new row.
-- Returns 1, or 0 if the marker has changed, or -1 if the row of the old last is missing; the
-- number of rows; and the time in milliseconds.
local marker = redis.call('HMGET', KEYS[1], 'feed', 'last', 'code')
if marker[1] ~= ARGV[3] or marker[2] ~= ARGV[4] or marker[3] ~= ARGV[5] then
  return {0, 0, 0}
end
if ARGV[8] ~= '' then
  local there = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[4], ARGV[4])
  if #there ~= 1 or (there[1] ~= ARGV[8] and there[1] ~= ARGV[9]) then
    return {-1, 0, 0}
  end
end
for n = 10, #ARGV, 2 do
  redis.call('ZADD', KEYS[2], ARGV[n], ARGV[n + 1])
end
if #ARGV > 9 or ARGV[6] ~= ARGV[4] then
  redis.call('HSET', KEYS[1], 'last', ARGV[6], 'code', ARGV[7])
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
local time = redis.call('TIME')
return {1, redis.call('ZCARD', KEYS[2]), time[1] * 1000 + math.floor(time[2] / 1000)}
