// Package bench measures what the daemon costs and how fast it is, each figure beside its reference in the same run:
// the same requests in a bare loop, a script of ip(8) commands on what `ip monitor` prints, mptcpd and NetworkManager.
// It needs the tag bench: `sudo make bench` runs it, and fails when a ratio that docs/BENCHMARKS.md states is missed.
//
// Numbers of one machine mean little, and those of a shared one change from minute to minute. So every figure is a
// ratio: repetitions of the daemon and of its references alternate, and medians are compared.
package bench
