#!/bin/sh
# $1 is how many versions there will be: 1 for a fresh install, which follows the distribution's presets and starts nothing.
systemd-sysusers subflowd.conf || :
if [ "$1" -eq 1 ]; then systemctl --no-reload preset subflowd.service >/dev/null 2>&1 || :; fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || :
# A restart changes nothing in the kernel: a stop leaves everything in place, and a start adopts it.
if [ "$1" -gt 1 ]; then systemctl try-restart subflowd.service || :; fi
