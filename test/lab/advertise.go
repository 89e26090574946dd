package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Advertise sends one router advertisement (RFC 4861, 4.2) to all nodes on a link of the router, from a link-local
// address that the kernel picks, or from the one that is named. Extra is not sent: it is radvd's.
func (h *Host) Advertise(ra RA, from string) error {
	h.Lab.T.Helper()
	var err error
	h.Do(func() { err = advertise(ra, from) })
	if err != nil {
		return fmt.Errorf("[%s] advertise on %s: %w", h.Name, ra.Dev, err)
	}
	return nil
}

func advertise(ra RA, from string) error {
	link, err := net.InterfaceByName(ra.Dev)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Advertisements that may have crossed a router do not count: the hop limit tells.
	for opt, v := range map[int]int{unix.IPV6_MULTICAST_HOPS: 255, unix.IPV6_MULTICAST_IF: link.Index, unix.IPV6_MULTICAST_LOOP: 0} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, opt, v); err != nil {
			return err
		}
	}
	if from != "" {
		a := unix.SockaddrInet6{ZoneId: uint32(link.Index), Addr: netip.MustParseAddr(from).As16()}
		if err := unix.Bind(fd, &a); err != nil {
			return err
		}
	}
	to := unix.SockaddrInet6{ZoneId: uint32(link.Index), Addr: netip.MustParseAddr("ff02::1").As16()}
	return unix.Sendto(fd, ra.message(), 0, &to)
}

// message is the advertisement; the kernel fills in the checksum.
func (ra RA) message() []byte {
	preference := map[string]byte{"high": 0x08, "": 0, "medium": 0, "low": 0x18}[ra.Preference] // RFC 4191
	b := []byte{134, 0, 0, 0, 64, preference}
	b = binary.BigEndian.AppendUint16(b, uint16(ra.Lifetime))
	b = append(b, make([]byte, 8)...) // reachable time and retransmission timer: unspecified
	for _, p := range ra.Prefixes {
		prefix, flags := netip.MustParsePrefix(p.Prefix), byte(0xc0) // on-link, autonomous
		if p.OffLink {
			flags = 0x40
		}
		b = append(b, 3, 4, byte(prefix.Bits()), flags)
		b = binary.BigEndian.AppendUint32(b, uint32(p.Valid))
		b = binary.BigEndian.AppendUint32(b, uint32(p.Preferred))
		b = append(b, 0, 0, 0, 0)
		b = append(b, prefix.Addr().AsSlice()...)
	}
	return b
}
