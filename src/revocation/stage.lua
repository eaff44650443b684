-- Adds rows to a new projection that is not in use yet. KEYS: new rows. ARGV: number and row of
-- each.
for n = 1, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], ARGV[n], ARGV[n + 1])
end
redis.call('PEXPIRE', KEYS[1], 60000)
return #ARGV / 2
