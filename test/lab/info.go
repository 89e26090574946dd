package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sort"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options of level SOL_MPTCP (include/uapi/linux/mptcp.h).
const (
	solMPTCP          = 284
	mptcpInfo         = 1
	mptcpTCPInfo      = 2
	mptcpSubflowAddrs = 3
)

// Info is what the kernel says of a connection.
type Info struct {
	MPTCP    bool   // false: plain TCP, or fallen back to it
	Fallback bool   // an MPTCP socket that fell back to TCP
	Token    uint32 // names the connection in ss and ip mptcp monitor
	Extra    int    // mptcpi_subflows: subflows besides the first
	Retrans  uint32 // mptcpi_retransmits: times that data moved to another subflow
}

// Subflow is one TCP connection of an MPTCP connection.
type Subflow struct {
	Local, Remote netip.AddrPort
	Established   bool
	State         uint8         // TCP_ESTABLISHED is 1, TCP_SYN_SENT 2
	Acked         uint64        // bytes that the peer has acknowledged
	Received      uint64        // bytes
	RTT           time.Duration // smoothed
	Backoff       uint8         // times that the retransmission timer has doubled
}

func (s Subflow) String() string {
	return fmt.Sprintf("%s -> %s state %d acked %d received %d rtt %v backoff %d",
		s.Local, s.Remote, s.State, s.Acked, s.Received, s.RTT, s.Backoff)
}

// getsockopt reads an option into b and returns its length.
func getsockopt(c net.Conn, opt int, b []byte) (int, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, errors.New("read socket option: no system socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	n := uint32(len(b))
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, solMPTCP, uintptr(opt),
			uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return int(n), err
}

// infoOf reads MPTCP_INFO. mptcp says that the socket was made as an MPTCP one: the option fails when it fell back.
func infoOf(c net.Conn, mptcp bool) Info {
	b := make([]byte, 256)
	n, err := getsockopt(c, mptcpInfo, b)
	if err != nil || n < 16 {
		return Info{Fallback: mptcp}
	}
	flags := binary.NativeEndian.Uint32(b[8:])
	i := Info{MPTCP: flags&1 == 0, Fallback: flags&1 != 0, Token: binary.NativeEndian.Uint32(b[12:]), Extra: int(b[0])}
	if n >= 48 {
		i.Retrans = binary.NativeEndian.Uint32(b[44:])
	}
	return i
}

// arrayOf reads one of the options that fill an array of elements, one for each subflow (struct mptcp_subflow_data).
func arrayOf(c net.Conn, opt, size int) ([][]byte, error) {
	const head, room = 16, 16
	b := make([]byte, head+room*size)
	binary.NativeEndian.PutUint32(b[0:], head)
	binary.NativeEndian.PutUint32(b[12:], uint32(size))
	if _, err := getsockopt(c, opt, b); err != nil {
		return nil, err
	}
	n := int(binary.NativeEndian.Uint32(b[4:]))
	var r [][]byte
	for i := range min(n, room) {
		r = append(r, b[head+i*size:head+(i+1)*size])
	}
	return r, nil
}

// subflowsOf lists the subflows of a connection; none after a fallback.
func subflowsOf(c net.Conn) ([]Subflow, error) {
	const addrs, tcpInfo = 256, 136 // struct mptcp_subflow_addrs; struct tcp_info up to tcpi_bytes_received
	for range 10 {
		a, err := arrayOf(c, mptcpSubflowAddrs, addrs)
		if err != nil {
			return nil, err
		}
		t, err := arrayOf(c, mptcpTCPInfo, tcpInfo)
		if err != nil {
			return nil, err
		}
		again, err := arrayOf(c, mptcpSubflowAddrs, addrs)
		if err != nil {
			return nil, err
		}
		if fmt.Sprint(a) != fmt.Sprint(again) || len(a) != len(t) {
			continue // one came or went between the calls
		}
		r := make([]Subflow, len(a))
		for i := range a {
			r[i] = Subflow{
				Local: addrPort(a[i]), Remote: addrPort(a[i][128:]),
				State: t[i][0], Established: t[i][0] == 1, Backoff: t[i][4],
				RTT:      time.Duration(binary.NativeEndian.Uint32(t[i][68:])) * time.Microsecond,
				Acked:    binary.NativeEndian.Uint64(t[i][120:]),
				Received: binary.NativeEndian.Uint64(t[i][128:]),
			}
		}
		return r, nil
	}
	return nil, errors.New("list subflows: they keep changing")
}

// Info reads MPTCP_INFO.
func (c *Conn) Info() Info { return infoOf(c.Conn, c.mptcp) }

// Subflows lists the subflows that the kernel holds for the connection, in any state; none after a fallback.
func (c *Conn) Subflows() []Subflow {
	s, _ := subflowsOf(c.Conn)
	return s
}

// SubflowAddrs returns the local addresses of the established subflows, sorted.
func (c *Conn) SubflowAddrs() []string { return established(c.Subflows()) }

func established(all []Subflow) []string {
	var r []string
	for _, s := range all {
		if s.Established {
			r = append(r, s.Local.Addr().String())
		}
	}
	sort.Strings(r)
	return r
}

// CheckSubflows compares the local addresses of the established subflows, in any order. A connection makes its other
// subflows once it has carried data both ways: an Echo before.
func (c *Conn) CheckSubflows(addrs ...string) error {
	want := append([]string(nil), addrs...)
	sort.Strings(want)
	if found := c.SubflowAddrs(); !same(want, found) {
		err := beside("established subflows", want, found)
		if c.Info().Fallback {
			err = fmt.Errorf("%w  the connection fell back to TCP", err)
		}
		return err
	}
	return nil
}

// WantSubflows sends an Echo, waits up to 20 s for the established subflows to have these local addresses, and ends the
// test if they do not get them.
func (c *Conn) WantSubflows(addrs ...string) {
	c.Host.Lab.T.Helper()
	c.WantEcho(20 * time.Second)
	Eventually(c.Host.Lab.T, 20*time.Second, "subflows", func() error { return c.CheckSubflows(addrs...) })
}
