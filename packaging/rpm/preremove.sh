#!/bin/sh
# $1 is how many versions will be left: more than 0 for an upgrade.
[ "$1" -eq 0 ] || exit 0
systemctl --no-reload disable --now subflowd.service >/dev/null 2>&1 || :
# rpm 4.20 and newer may run this in an empty network namespace (its plugin unshare); the service's is that of process 1.
there="nsenter --net=/proc/1/ns/net"
$there true 2>/dev/null || there=
# What it made stays after a stop; without the package nobody would keep it right.
$there subflowd --cleanup || $there subflowd --config /dev/null --cleanup || :
rm -rf /run/subflowd
