-- Reads the projection from a number on. KEYS: marker, rows. ARGV: after, most. Answers what time
-- it is, in milliseconds; when nothing was missing, up to which number, and the proof of that; and
-- rows.
local marker = redis.call('HMGET', KEYS[1], 'checked', 'upto', 'proof')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
return {now, marker[1] or '', marker[2] or '', marker[3] or '', rows}
