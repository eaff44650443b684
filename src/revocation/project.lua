-- Takes the projection of the list of revocations further. KEYS: marker, rows. ARGV: feed,
-- channel, then number and row of each that is brought, and first of one that should be
-- there. Answers the last number that it has now, which is less than was brought if rows
-- before that are missing, or -1 if it is missing or of another list; how many rows it has;
-- and what time it is, in milliseconds.
local feed, channel = ARGV[1], ARGV[2]
local marker = redis.call('HMGET', KEYS[1], 'feed', 'last')
if marker[1] ~= feed then
  return {-1, 0, 0}
end
local known = tonumber(marker[2])
local before = known
for n = 3, #ARGV, 2 do
  local number = tonumber(ARGV[n])
  if number == known + 1 then
    redis.call('ZADD', KEYS[2], ARGV[n], ARGV[n + 1])
    known = number
  elseif number <= before then
    local there = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[n], ARGV[n])[1]
    if there and there ~= ARGV[n + 1] then
      return {-1, 0, 0}
    end
  end
end
if known > before then
  redis.call('HSET', KEYS[1], 'last', string.format('%.0f', known))
  redis.call('PUBLISH', channel, string.format('%.0f', known))
end
local time = redis.call('TIME')
return {known, redis.call('ZCARD', KEYS[2]), time[1] * 1000 + math.floor(time[2] / 1000)}
