// Package kinds proves subflowd on the kinds of links that a kernel for test machines may lack: vlan, bond, vrf,
// wireguard, dummy, ipvlan, ppp, and the kernel's tunnels. Its tests have the build tag kinds, because make test skips
// nothing and must not need such a kernel; make test-kernel runs them on Debian's own. On a machine with these kinds:
//
//	sudo go test -count=1 -tags kinds ./test/kinds
//
// A kind that the kernel lacks fails the test, in ip's words: "Unknown device type".
package kinds
