-- Reads the projection after a number. KEYS: marker, rows. ARGV: number, maximum. Returns the time
-- in milliseconds; when the projection was complete, up to which number, and the code of that; and
-- rows.
local marker = redis.call('HMGET', KEYS[1], 'checked', 'upto', 'proof')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
return {now, marker[1] or '', marker[2] or '', marker[3] or '', rows}
