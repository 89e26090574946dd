#!/bin/bash
# The whole story in throwaway network namespaces: a laptop with two uplinks that
# get their addresses by DHCP, a server behind them, a transfer over both, and a
# cable that is pulled and put back. Nothing of this machine's network is touched.
# usage: demo.sh DIRECTORY-WITH-subflowd-subflowctl-transfer
set -euo pipefail
bin=$(readlink -f "${1:?usage: demo.sh DIRECTORY}")
[ "$(id -u)" = 0 ] || { echo "demo: needs root, to make network namespaces" >&2; exit 1; }
for tool in ip tc dnsmasq busybox; do
  command -v $tool >/dev/null || { echo "demo: $tool is missing: run make deps" >&2; exit 1; }
done

id=sfdemo$$
dir=$(mktemp -d)
pids=()
at_exit() {
  set +e
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
  for p in "${pids[@]}"; do wait "$p" 2>/dev/null; done
  for n in client router server; do
    for p in $(ip netns pids $id-$n 2>/dev/null); do kill "$p" 2>/dev/null; done
    ip netns del $id-$n 2>/dev/null
  done
  rm -rf "$dir"
}
trap at_exit EXIT

bold='' plain=''
[ -t 1 ] && bold=$'\033[1m' plain=$'\033[0m'
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
in_ns() { local n=$1; shift; ip netns exec $id-"$n" "$@"; }
# spawn NAMESPACE COMMAND...: in the background; $! is the command's own pid
spawn() { local n=$1; shift; exec ip netns exec $id-"$n" "$@"; }
run() { printf '$ %s\n' "${*//$bin\//}"; in_ns client "$@"; }
# until TEXT COMMAND...: waits at most 20 s for the command to succeed
until_ok() {
  local what=$1 end=$((SECONDS + 20)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "demo: $what did not happen" >&2; cat "$dir"/*.log >&2; exit 1; }
    sleep 0.1
  done
}

for n in client router server; do ip netns add $id-$n; ip -n $id-$n link set lo up; done
veth() { # CLIENT-NAMESPACE LINK PEER-NAMESPACE LINK
  ip link add "$2" netns $id-"$1" type veth peer name "$4" netns $id-"$3"
  ip -n $id-"$1" link set "$2" up; ip -n $id-"$3" link set "$4" up
}
veth client eth0 router r0; veth client wlan0 router r1; veth router r2 server eth0
in_ns router sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0
ip -n $id-router addr add 10.1.1.1/24 dev r0; ip -n $id-router addr add 10.1.2.1/24 dev r1
ip -n $id-router addr add 10.9.0.1/24 dev r2; ip -n $id-server addr add 10.9.0.2/24 dev eth0
ip -n $id-server route add default via 10.9.0.1
ip -n $id-server mptcp limits set subflows 4 add_addr_accepted 4
for l in eth0 wlan0; do tc -n $id-client qdisc add dev $l root tbf rate 20mbit burst 32k latency 60ms; done

cat >"$dir/udhcpc.sh" <<'X'
#!/bin/sh
case $1 in
bound | renew)
  ip addr replace "$ip/$mask" dev "$interface"
  metric=100; [ "$interface" = eth0 ] || metric=600
  ip route replace default via "$router" dev "$interface" proto dhcp metric $metric ;;
esac
X
chmod +x "$dir/udhcpc.sh"
say "A laptop with two uplinks of 20 Mbit/s each. Both get their address by DHCP."
for i in 0 1; do
  spawn router dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=r$i --bind-interfaces \
    --dhcp-range=10.1.$((i + 1)).50,10.1.$((i + 1)).99,255.255.255.0 --dhcp-option=3,10.1.$((i + 1)).1 --dhcp-authoritative --no-ping \
    --leasefile-ro --pid-file="$dir/dnsmasq$i.pid" >"$dir/dnsmasq$i.log" 2>&1 & pids+=($!)
done
for l in eth0 wlan0; do
  spawn client busybox udhcpc -f -i $l -s "$dir/udhcpc.sh" >"$dir/udhcpc-$l.log" 2>&1 & pids+=($!)
done
until_ok "a lease on both links" sh -c "ip -n $id-client route | grep -q 'default.*eth0' && ip -n $id-client route | grep -q 'default.*wlan0'"
run ip -brief -4 addr show scope global
run ip route show default
run ip mptcp endpoint
ip -n $id-client rule >"$dir/before"; ip -n $id-client mptcp limits >>"$dir/before"

spawn server "$bin/transfer" serve 10.9.0.2:5001 & pids+=($!)
until_ok "the server" in_ns client timeout 1 bash -c ': </dev/tcp/10.9.0.2/5001'
say "Without subflowd a Multipath TCP connection uses one of them:"
in_ns client "$bin/transfer" send 10.9.0.2:5001 4 eth0 wlan0

say "subflowd starts:"
socket=$dir/run/control.sock
: >"$dir/empty.toml"
spawn client "$bin/subflowd" --config "$dir/empty.toml" --state-dir "$dir/run" --socket "$socket" --log-format console & daemon=$!; pids+=($daemon)
until_ok "the first round" in_ns client "$bin/subflowctl" --socket "$socket" wait --paths 2 --timeout 10s
printf '\n$ subflowctl status\n'; in_ns client "$bin/subflowctl" --socket "$socket" status
printf '\n'; run ip rule
run ip mptcp endpoint

say "The same connection now uses both. After 5 s the cable of eth0 is pulled, after 11 s it is put back:"
( sleep 5.5; ip -n $id-router link set r0 down; sleep 6; ip -n $id-router link set r0 up ) & pids+=($!)
in_ns client "$bin/transfer" send 10.9.0.2:5001 18 eth0 wlan0

say "subflowd stops (everything stays), then subflowd --cleanup takes back all that it made:"
kill $daemon; wait $daemon || true
run "$bin/subflowd" --config "$dir/empty.toml" --state-dir "$dir/run" --log-format console --cleanup
run ip rule
ip -n $id-client rule >"$dir/after"; ip -n $id-client mptcp limits >>"$dir/after"
cmp -s "$dir/before" "$dir/after" && echo "Rules and limits are what they were before."
