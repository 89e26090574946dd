package mptcp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// counterFile belongs to the calling thread's namespace; /proc/net would be that of the process's first thread.
const counterFile = "/proc/thread-self/net/netstat"

// Counters are the MPTcpExt counters of a namespace by name, without the prefix: "MPJoinSynTx", "MPCapableFallbackACK"
// (net/mptcp/mib.c). They only grow, from the creation of the namespace on; MPCurrEstab is a gauge.
type Counters map[string]uint64

// ReadCounters reads the counters of the calling thread's namespace. It needs no privilege. The error is
// ErrUnsupported where the kernel has no Multipath TCP. Some kernels show only zeros, or nothing, until the first
// MPTCP socket of the namespace is made.
func ReadCounters() (Counters, error) {
	b, err := os.ReadFile(counterFile)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	c, err := ParseCounters(b)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	return c, nil
}

// ParseCounters reads the MPTcpExt counters from the text of /proc/net/netstat: a line of names and a line of
// values. The error is ErrUnsupported where there are none.
func ParseCounters(text []byte) (Counters, error) {
	prefix := []byte("MPTcpExt: ")
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
		return pairCounters(names, rest)
	}
	if names != nil {
		return nil, errors.New("MPTcpExt has names and no values")
	}
	return nil, ErrUnsupported
}

func pairCounters(names, values []byte) (Counters, error) {
	n, v := bytes.Fields(names), bytes.Fields(values)
	if len(n) != len(v) {
		return nil, fmt.Errorf("MPTcpExt has %d names and %d values", len(n), len(v))
	}
	c := make(Counters, len(n))
	for i := range n {
		value, err := strconv.ParseUint(string(v[i]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("MPTcpExt %s: %w", n[i], err)
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
