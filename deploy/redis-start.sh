#!/bin/sh
# Starts Redis for Keyward: with one user, who has a password and the rights listed in
# deploy/keyward.toml, and without persistence.
set -eu
folder=${REDIS_FOLDER:-/data}
umask 077
cat >"$folder/redis.conf" <<CONFIG
port ${REDIS_PORT:-6379}
dir $folder
save ""
appendonly no
maxmemory 256mb
# A full memory must be a visible error, not a lost limit.
maxmemory-policy noeviction
user default off
user keyward on >$REDIS_PASSWORD ~keyward:* resetchannels &keyward:* +info +ping +eval +evalsha +publish +subscribe +time +get +getex +getrange +set +setrange +del +unlink +rename +persist +pexpire +hset +hmget +zadd +zcard +zrangebyscore +zremrangebyscore +client|setinfo
CONFIG
unset REDIS_PASSWORD
exec redis-server "$folder/redis.conf"
