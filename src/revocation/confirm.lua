-- Says when nothing was missing in the projection. KEYS: marker. ARGV: feed, last, when.
local marker = redis.call('HMGET', KEYS[1], 'feed', 'last', 'checked')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local when, checked = tonumber(ARGV[3]), tonumber(marker[3])
if marker[1] ~= ARGV[1] or tonumber(marker[2]) < tonumber(ARGV[2]) or when > now then
  return 0
end
-- What it said while its clock was ahead is no word to keep.
if when > checked or checked > now then
  redis.call('HSET', KEYS[1], 'checked', ARGV[3])
end
return 1
