-- Reads the marker of the projection. KEYS: marker. Returns feed, last and code, or empty strings.
local marker = redis.call('HMGET', KEYS[1], 'feed', 'last', 'code')
return {marker[1] or '', marker[2] or '', marker[3] or ''}
