package observe

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// Document is the public form of a sample, with the rates since an earlier one;
// before may be nil. Connections are in the order of their ends.
func Document(now, before *Sample) *status.Connections {
	d := &status.Connections{
		Schema: status.Schema, Time: now.Time.UTC().Truncate(time.Millisecond), SubflowsHidden: now.Hidden,
		Connections: make([]status.Connection, len(now.Connections)), Links: make([]status.Carrier, 0, len(now.Links)),
	}
	r := newRates(now, before)
	d.IntervalSeconds = r.seconds
	load := map[int]*carried{}
	for i, n := range order(now.Connections) {
		c := &now.Connections[n]
		d.Connections[i] = connection(now, c, r)
		carry(load, d.Connections[i].Subflows)
	}
	for i := range now.Links {
		l := &now.Links[i]
		if l.Loopback && load[l.Index] == nil {
			continue
		}
		out := status.Carrier{Link: l.Name, Ifindex: l.Index, SentBytes: l.SentBytes, ReceivedBytes: l.ReceivedBytes, Rate: r.link(l)}
		load[l.Index].into(&out, before != nil)
		d.Links = append(d.Links, out)
	}
	return d
}

// order sorts without moving: a connection takes 300 bytes.
func order(list []mptcp.Connection) []int {
	out := make([]int, len(list))
	for i := range out {
		out[i] = i
	}
	slices.SortFunc(out, func(a, b int) int {
		x, y := &list[a], &list[b]
		return cmp.Or(x.Remote.Compare(y.Remote), x.Local.Compare(y.Local), cmp.Compare(x.Token, y.Token))
	})
	return out
}

// Token is a connection's token as ss(8) and `ip mptcp monitor` write it.
func Token(t uint32) string {
	s := strconv.FormatUint(uint64(t), 16)
	return "00000000"[len(s):] + s
}

func connection(s *Sample, c *mptcp.Connection, r rates) status.Connection {
	out := status.Connection{
		Token: Token(c.Token), Local: c.Local.String(), Remote: c.Remote.String(), State: c.State.String(), Fallback: c.Fallback,
		UID: c.UID, Inode: c.Inode, SubflowLimit: c.SubflowsMax,
		RetransmittedBytes: c.BytesRetrans, SendQueueBytes: c.SendQueue, ReceiveQueueBytes: c.ReceiveQueue, Rate: r.connection(c),
		Subflows: make([]status.Subflow, len(c.Subflows)),
	}
	out.SentBytes, out.ReceivedBytes = streamBytes(c)
	for i := range c.Subflows {
		out.Subflows[i] = subflow(s, &c.Subflows[i], r)
	}
	slices.SortStableFunc(out.Subflows, func(a, b status.Subflow) int {
		switch {
		case a.Initial != b.Initial && a.Initial:
			return -1
		case a.Initial != b.Initial:
			return 1
		}
		return cmp.Or(cmp.Compare(a.LocalID, b.LocalID), cmp.Compare(a.RemoteID, b.RemoteID), cmp.Compare(a.Local, b.Local))
	})
	return out
}

// streamBytes are the bytes of the application's stream. Kernels before 6.6 do
// not count them, and none does for connections that have fallen back: there
// the subflows' own stand in.
func streamBytes(c *mptcp.Connection) (sent, received uint64) {
	if c.BytesSent != 0 || c.BytesReceived != 0 {
		return c.BytesSent, c.BytesReceived
	}
	for i := range c.Subflows {
		sent += c.Subflows[i].BytesSent - c.Subflows[i].BytesRetrans
		received += c.Subflows[i].BytesReceived
	}
	return sent, received
}

func subflow(s *Sample, f *mptcp.Subflow, r rates) status.Subflow {
	way := s.Way(f)
	return status.Subflow{
		Link: s.LinkName(way), Ifindex: way, AddressLink: s.LinkName(s.astray(f)),
		Local: f.Local.String(), Remote: f.Remote.String(), State: f.State.String(), LocalID: f.LocalID, RemoteID: f.RemoteID,
		Initial: !f.JoinLocal && !f.JoinRemote, Established: f.FullyEstablished, BackupLocal: f.BackupLocal, BackupRemote: f.BackupRemote,
		RTTSeconds: f.RTT.Seconds(), MinRTTSeconds: f.MinRTT.Seconds(), RTOSeconds: f.RTO.Seconds(), Congestion: f.CAState.String(),
		Cwnd: f.Cwnd, MSS: f.MSS, Unacked: f.Unacked, Lost: f.Lost, Retransmits: f.TotalRetrans, Timeouts: f.Backoff,
		SentBytes: f.BytesSent, AckedBytes: f.BytesAcked, ReceivedBytes: f.BytesReceived, RetransmittedBytes: f.BytesRetrans,
		NotSentBytes: f.NotSent, DeliveryBytesPerSecond: f.DeliveryRate, Rate: r.subflow(f),
		LastSentSeconds: f.LastDataSent.Seconds(), LastReceivedSeconds: f.LastDataRecv.Seconds(), LastAckSeconds: f.LastAckRecv.Seconds(),
	}
}

// carried is what the subflows of one link add up to.
type carried struct {
	connections, subflows int
	sent, received        uint64
	rate                  status.Rate
}

// carry adds the subflows of one connection.
func carry(load map[int]*carried, list []status.Subflow) {
	for i := range list {
		f := &list[i]
		x := load[f.Ifindex]
		if x == nil {
			x = &carried{}
			load[f.Ifindex] = x
		}
		if !slices.ContainsFunc(list[:i], func(o status.Subflow) bool { return o.Ifindex == f.Ifindex }) {
			x.connections++
		}
		x.subflows++
		x.sent += f.SentBytes
		x.received += f.ReceivedBytes
		if f.Rate != nil {
			x.rate.SentBytesPerSecond += f.Rate.SentBytesPerSecond
			x.rate.ReceivedBytesPerSecond += f.Rate.ReceivedBytesPerSecond
		}
	}
}

// into writes the sum down; a nil one is of no subflows.
func (x *carried) into(out *status.Carrier, rated bool) {
	if x == nil {
		x = &carried{}
	}
	out.Connections, out.Subflows = x.connections, x.subflows
	out.SubflowSentBytes, out.SubflowReceivedBytes = x.sent, x.received
	if rated {
		out.SubflowRate = &x.rate
	}
}
