package mptcp

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// counterFile belongs to the calling thread's namespace; /proc/net would be that of the process's first thread.
const counterFile = "/proc/thread-self/net/netstat"

// Counters are the MPTcpExt counters of a namespace by name, without the prefix: "MPJoinSynTx", "MPCapableFallbackACK"
// (net/mptcp/mib.c). They only grow, from the creation of the namespace on; MPCurrEstab is a gauge.
type Counters map[string]uint64

// Groups of counters of /proc/net/netstat that have to do with Multipath TCP.
const (
	groupMPTCP = "MPTcpExt"
	groupTCP   = "TcpExt"
)

// ReadCounters reads the counters of the calling thread's namespace. It needs no privilege. The error is
// ErrUnsupported where the kernel has no Multipath TCP. Some kernels show only zeros, or nothing, until the first
// MPTCP socket of the namespace is made.
func ReadCounters() (Counters, error) { return readGroup(groupMPTCP) }

// ReadTCPCounters reads the TcpExt counters (net/ipv4/proc.c), which count the sockets of subflows and those of plain
// TCP alike. It needs no privilege.
func ReadTCPCounters() (Counters, error) { return readGroup(groupTCP) }

func readGroup(group string) (Counters, error) {
	b, err := os.ReadFile(counterFile)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	c, err := parseGroup(b, group)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	return c, nil
}

// ParseCounters reads the MPTcpExt counters from the text of /proc/net/netstat: a line of names and a line of
// values. The error is ErrUnsupported where there are none.
func ParseCounters(text []byte) (Counters, error) { return parseGroup(text, groupMPTCP) }

func parseGroup(text []byte, group string) (Counters, error) {
	prefix := []byte(group + ": ")
	var names []byte
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, prefix)
		if !ok {
			continue
		}
		if names == nil {
			names = rest
			continue
		}
		return pairCounters(group, names, rest)
	}
	if names != nil {
		return nil, fmt.Errorf("%s has names and no values", group)
	}
	return nil, ErrUnsupported
}

func pairCounters(group string, names, values []byte) (Counters, error) {
	n, v := bytes.Fields(names), bytes.Fields(values)
	if len(n) != len(v) {
		return nil, fmt.Errorf("%s has %d names and %d values", group, len(n), len(v))
	}
	c := make(Counters, len(n))
	for i := range n {
		value, err := strconv.ParseUint(string(v[i]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", group, n[i], err)
		}
		c[string(n[i])] = value
	}
	return c, nil
}

// Sub gives what was added since the counters in before; names that before does not have count from zero, and a
// counter that has fallen (MPCurrEstab, or another namespace's reading) gives zero.
func (c Counters) Sub(before Counters) Counters {
	d := make(Counters, len(c))
	for name, now := range c {
		if was := before[name]; now > was {
			d[name] = now - was
		} else {
			d[name] = 0
		}
	}
	return d
}
