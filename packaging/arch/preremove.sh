#!/bin/sh
systemctl disable --now subflowd.service >/dev/null 2>&1 || :
# What it made stays after a stop; without the package nobody would keep it right.
subflowd --cleanup || subflowd --config /dev/null --cleanup || :
rm -rf /run/subflowd
