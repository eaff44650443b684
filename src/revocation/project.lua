-- Takes the projection of the list of revocations further, and says when it was up to date.
-- KEYS: marker, rows. ARGV: feed, last, age, channel, then number and row of each that is
-- brought. Answers the last number that it has now, which is less than `last` if rows before
-- those that were brought are missing, or -1 if it is missing or of another list; and how
-- many rows it has.
local feed, last, age, channel = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local marker = redis.call('HMGET', KEYS[1], 'feed', 'last', 'checked')
if marker[1] ~= feed then
  return {-1, 0}
end
local known = tonumber(marker[2])
local before = known
for n = 5, #ARGV, 2 do
  local number = tonumber(ARGV[n])
  if number == known + 1 then
    redis.call('ZADD', KEYS[2], ARGV[n], ARGV[n + 1])
    known = number
  end
end
if known > before then
  redis.call('HSET', KEYS[1], 'last', string.format('%.0f', known))
  redis.call('PUBLISH', channel, string.format('%.0f', known))
end
if known == last then
  local time = redis.call('TIME')
  local checked = time[1] * 1000 + math.floor(time[2] / 1000) - age
  if checked > tonumber(marker[3]) then
    redis.call('HSET', KEYS[1], 'checked', string.format('%.0f', checked))
  end
end
return {known, redis.call('ZCARD', KEYS[2])}
