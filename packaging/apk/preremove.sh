#!/bin/sh
rc-service --ifstarted subflowd stop || :
rc-update --quiet del subflowd || :
# What it made stays after a stop; without the package nobody would keep it right.
subflowd --cleanup || subflowd --config /dev/null --cleanup || :
rm -rf /run/subflowd
