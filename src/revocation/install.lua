-- Puts a new projection in place of what there is. KEYS: marker, rows, new rows. ARGV: feed,
-- last, age, channel.
local time = redis.call('TIME')
local checked = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[3])
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], KEYS[2])
  redis.call('PERSIST', KEYS[2])
end
redis.call('HSET', KEYS[1], 'feed', ARGV[1], 'last', ARGV[2], 'checked', string.format('%.0f', checked))
redis.call('PUBLISH', ARGV[4], ARGV[2])
return 1
