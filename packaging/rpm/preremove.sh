#!/bin/sh
# $1 is how many versions will be left: more than 0 for an upgrade.
[ "$1" -eq 0 ] || exit 0
systemctl --no-reload disable --now subflowd.service >/dev/null 2>&1 || :
# What it made stays after a stop; without the package nobody would keep it right.
subflowd --cleanup || subflowd --config /dev/null --cleanup || :
rm -rf /run/subflowd
