-- Note the version of the layout in a store that has none, and return the version it has.
-- KEYS: 1 version of the layout
-- ARGV: 1 the version this turnlane knows
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
