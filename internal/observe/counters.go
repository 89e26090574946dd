package observe

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// Names of the groups in /proc/net/netstat.
const (
	GroupMPTCP = "MPTcpExt"
	GroupTCP   = "TcpExt"
)

// CounterSample is one reading of the kernel's counters.
type CounterSample struct {
	Time  time.Time
	MPTCP mptcp.Counters
	TCP   mptcp.Counters
}

// ReadCounters reads the counters of the calling thread's namespace. The error
// is mptcp.ErrUnsupported where the kernel has no Multipath TCP.
func ReadCounters() (*CounterSample, error) {
	s := &CounterSample{Time: time.Now()}
	var err error
	if s.MPTCP, err = mptcp.ReadCounters(); err != nil {
		return nil, err
	}
	if s.TCP, err = mptcp.ReadTCPCounters(); err != nil && !errors.Is(err, mptcp.ErrUnsupported) {
		return nil, err
	}
	return s, nil
}

var levelRank = map[status.CounterLevel]int{
	status.CounterTrouble: 0, status.CounterNotable: 1, status.CounterUnknown: 2, status.CounterUsual: 3,
}

// Counters is the public form of a reading, with what was added since an earlier
// one; before may be nil. Counters of TcpExt that tell nothing of paths are left
// out. The worst come first, then the order is that of the names.
func Counters(now, before *CounterSample) *status.KernelCounters {
	d := &status.KernelCounters{Schema: status.Schema, Time: now.Time.UTC().Truncate(time.Millisecond)}
	if before == nil {
		before = &CounterSample{}
	} else {
		d.IntervalSeconds = now.Time.Sub(before.Time).Seconds()
	}
	added := now.MPTCP.Sub(before.MPTCP)
	for name, value := range now.MPTCP {
		m, ok := MPTCPMeaning(name)
		if !ok {
			m = Meaning{Level: status.CounterUnknown, Text: "newer than this program"}
		}
		d.Counters = append(d.Counters, counter(GroupMPTCP, name, value, added[name], m))
	}
	added = now.TCP.Sub(before.TCP)
	for name, value := range now.TCP {
		if m, ok := TCPMeaning(name); ok {
			d.Counters = append(d.Counters, counter(GroupTCP, name, value, added[name], m))
		}
	}
	slices.SortFunc(d.Counters, func(a, b status.KernelCounter) int {
		return cmp.Or(levelRank[a.Level]-levelRank[b.Level], cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name))
	})
	return d
}

func counter(group, name string, value, added uint64, m Meaning) status.KernelCounter {
	return status.KernelCounter{Group: group, Name: name, Value: value, Added: added, Level: m.Level, Text: m.Text, Remedy: m.Remedy}
}
