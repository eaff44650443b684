-- Reads the marker of the projection. KEYS: marker. Answers feed, last and code; empty: none.
local marker = redis.call('HMGET', KEYS[1], 'feed', 'last', 'code')
return {marker[1] or '', marker[2] or '', marker[3] or ''}
