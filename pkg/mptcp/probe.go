package mptcp

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Support is the answer of a probe.
type Support uint8

// The answers of a probe.
const (
	// Unknown: the kernel cannot be asked without changing something, or the question was not allowed.
	Unknown Support = iota
	// No: the kernel lacks it.
	No
	// Yes: the kernel has it.
	Yes
)

// String is "unknown", "no" or "yes".
func (s Support) String() string {
	switch s {
	case No:
		return "no"
	case Yes:
		return "yes"
	}
	return "unknown"
}

func supportOf(b bool) Support {
	if b {
		return Yes
	}
	return No
}

// fallbackMaximum is MPTCP_PM_ADDR_MAX from Linux 5.7 to 7.1 (net/mptcp/protocol.h).
const fallbackMaximum = 8

// Features is what the running kernel can do. None of it is deduced from a version.
type Features struct {
	// MaxEndpoints is the size of the endpoint table: in all kernels so far the same constant as MaxLimit.
	MaxEndpoints int
	// MaxLimit is the highest value of either limit.
	MaxLimit uint32
	// MaxProbed is false where the two values above are the fallback of 8, because the kernel did not tell: it
	// was not allowed to, or is as old as 6.1.
	MaxProbed bool
	// Fullmesh is the flag of that name (5.15). A kernel that has it but does not refuse it together with
	// FlagSignal shows as Unknown.
	Fullmesh Support
	// Laminar is the flag of that name (6.18).
	Laminar Support
	// SetFlagsByID: [Client.SetFlags] needs no address (5.17).
	SetFlagsByID Support
	// Events: [Client.SubscribeEvents] works, given the privilege (5.12).
	Events Support
	// UserspacePM: the kernel can leave path management to a daemon such as mptcpd (5.19).
	UserspacePM Support
}

// Probe finds out what the kernel can do and changes nothing: every request that it makes is one that the kernel
// always refuses, and the refusal tells. Without CAP_NET_ADMIN it returns what can be known and an error that is
// ErrPermission.
func Probe(c *Client) (Features, error) {
	f := Features{
		MaxEndpoints: fallbackMaximum,
		MaxLimit:     fallbackMaximum,
		UserspacePM:  supportOf(c.family.ops&(1<<cmdAnnounce) != 0),
		Laminar:      c.probeLaminar(),
	}
	_, events := c.family.groups[groupEvents]
	f.Events = supportOf(events)

	maximum, err := c.probeMaximum()
	if err != nil {
		return f, fail("probe", "limits", err)
	}
	if maximum > 0 {
		f.MaxLimit, f.MaxEndpoints, f.MaxProbed = maximum, int(maximum), true
	}
	if f.SetFlagsByID, err = c.probeSetFlagsByID(); err != nil {
		return f, fail("probe", "flags by id", err)
	}
	if f.Fullmesh, err = c.probeFullmesh(); err != nil {
		return f, fail("probe", "fullmesh", err)
	}
	return f, nil
}

// refusal is the kernel's answer to a request that must fail.
func refusal(err error) (kernelReply, error) {
	var r kernelReply
	switch {
	case err == nil:
		return r, errors.New("the kernel took a request that it has to refuse")
	case !errors.As(err, &r) || r.errno == unix.EPERM || r.errno == unix.EACCES:
		return r, err
	}
	return r, nil
}

// probeMaximum asks for limits of 2^32-1, which no kernel grants; newer ones name the maximum. Others still point
// at the attribute that they refuse: additional subflows of 2^32-1 are always refused, but only after
// the first limit has been found good. 0 means that the kernel did not tell.
func (c *Client) probeMaximum() (uint32, error) {
	r, err := refusal(c.setLimits(Limits{Subflows: ^uint32(0), AddAddrAccepted: ^uint32(0)}))
	if err != nil {
		return 0, err
	}
	if n := maximumFromText(r.msg); n > 0 || r.offset < 0 {
		return n, nil
	}
	first := r.offset
	good, bad := uint32(0), uint32(256)
	for bad-good > 1 {
		n := (good + bad) / 2
		r, err := refusal(c.setLimits(Limits{Subflows: ^uint32(0), AddAddrAccepted: n}))
		if err != nil {
			return 0, err
		}
		if r.offset == first {
			bad = n
		} else {
			good = n
		}
	}
	if bad == 256 {
		return 0, nil
	}
	return good, nil
}

// maximumFromText takes N from "limit greater than maximum (N)"; 0 where there is none.
func maximumFromText(s string) uint32 {
	_, s, ok := strings.Cut(s, "(")
	if !ok {
		return 0
	}
	s, _, ok = strings.Cut(s, ")")
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if !ok || err != nil || n > 1<<16 {
		return 0
	}
	return uint32(n)
}

// probeSetFlagsByID gives neither address nor id: a kernel that looks up by id misses the id (EOPNOTSUPP), an
// older one the address family (EINVAL).
func (c *Client) probeSetFlagsByID() (Support, error) {
	c.genl.Lock()
	defer c.genl.Unlock()
	nest := newNest()
	nest.u32(addrFlags, 0)
	r, err := refusal(c.genl.run(c.request(cmdSetFlags, unix.NLM_F_ACK, nest), nil))
	if err != nil {
		return Unknown, err
	}
	return supportOf(r.errno == unix.EOPNOTSUPP), nil
}

// probeFullmesh asks for an endpoint with signal and fullmesh, which a kernel that knows fullmesh refuses by
// name. Others would take it, but for the port: to announce one they listen on the address first, and a
// link-local address with no interface cannot be bound (inet6_bind, EINVAL).
func (c *Client) probeFullmesh() (Support, error) {
	e := Endpoint{Addr: netip.MustParseAddr("fe80::1"), Port: 1, Flags: FlagSignal | FlagFullmesh}
	r, err := refusal(c.addEndpoint(e))
	if err != nil {
		return Unknown, err
	}
	if strings.Contains(r.msg, "fullmesh") {
		return Yes, nil
	}
	return Unknown, nil
}

// laminarMember is a member of struct mptcp_info that came with the flag. The kernel masks flags that it does not
// know without a word, so no refused request can tell.
const laminarMember = "mptcpi_endp_laminar_max"

// probeLaminar looks for an endpoint that has the flag, then for the member in the kernel's type information.
func (c *Client) probeLaminar() Support {
	list, err := c.Endpoints()
	if err == nil {
		for _, e := range list {
			if e.Flags&FlagLaminar != 0 {
				return Yes
			}
		}
	}
	f, err := os.Open("/sys/kernel/btf/vmlinux")
	if err != nil {
		return Unknown
	}
	defer f.Close()
	found, err := contains(f, laminarMember)
	if err != nil {
		return Unknown
	}
	return supportOf(found)
}

// contains looks for s in a stream, with one small buffer.
func contains(r io.Reader, s string) (bool, error) {
	buf := make([]byte, 128<<10)
	kept := 0
	for {
		n, err := r.Read(buf[kept:])
		n += kept
		if bytes.Contains(buf[:n], []byte(s)) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = min(n, len(s)-1)
		copy(buf, buf[n-kept:n])
	}
}
