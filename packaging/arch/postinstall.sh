#!/bin/sh
# Nothing here starts a service that the administrator did not ask for.
systemd-sysusers subflowd.conf || :
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || :
# A restart changes nothing in the kernel: a stop leaves everything in place, and a start adopts it.
systemctl try-restart subflowd.service || :
