package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// sysClassNet shows links with what netlink does not tell: the kind of device
// that a driver names in its uevent, and the driver.
const sysClassNet = "/sys/class/net"

// fewLinks is up to how many links are asked for one by one; more are a dump.
const fewLinks = 64

// skipStats is RTEXT_FILTER_SKIP_STATS.
const skipStats = 1 << 3

const ifinfoLen = unix.SizeofIfInfomsg

// readLinks reads all links, or those of only where it names few.
func (k *Kernel) readLinks(only map[int]struct{}) error {
	read := k.allLinks
	if only != nil && len(only) <= fewLinks {
		read = func() ([]netstate.Link, error) { return k.linksAgain(only) }
	}
	links, err := read()
	if err != nil || slices.Equal(links, k.links) {
		return err
	}
	k.changed |= netstate.KindLinks
	k.links = links
	k.publishNames()
	return nil
}

// allLinks dumps the links.
func (k *Kernel) allLinks() ([]netstate.Link, error) {
	links := make([]netstate.Link, 0, len(k.links))
	k.linkRequest(unix.NLM_F_DUMP, 0)
	err := k.rt.dump(func() { links = links[:0] }, func(h header, b []byte) {
		if l, ok := decodeLink(b); ok && h.typ == unix.RTM_NEWLINK {
			links = append(links, l)
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(links, byIndex)
	k.learnHardware(links)
	return links, nil
}

func byIndex(a, b netstate.Link) int { return a.Index - b.Index }

// linksAgain is what is known, with those of only asked for one by one: on a host
// of a thousand containers a dump for each of their links is dear, and is
// interrupted by the next.
func (k *Kernel) linksAgain(only map[int]struct{}) ([]netstate.Link, error) {
	var found []netstate.Link
	for i := range only {
		if i <= 0 {
			continue // no link, and the request would be refused
		}
		l, ok, err := k.readLink(i)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, l)
		}
	}
	slices.SortFunc(found, byIndex)
	k.recallHardware(found)
	links := make([]netstate.Link, 0, len(k.links)+len(found))
	for _, l := range k.links {
		for len(found) > 0 && found[0].Index < l.Index {
			links, found = append(links, found[0]), found[1:]
		}
		if _, named := only[l.Index]; !named {
			links = append(links, l)
		}
	}
	return append(links, found...), nil
}

// readLink reads one link; ok is false where there is none.
func (k *Kernel) readLink(ifindex int) (l netstate.Link, ok bool, err error) {
	k.linkRequest(0, ifindex)
	var refusal reply
	err = k.rt.exchange(k.rt.seq, k.rt.seq, true, func(_ header, b []byte) {
		l, ok = decodeLink(b)
	}, func(_ uint32, r reply) { refusal = r })
	if err == nil && refusal.errno != 0 && refusal.errno != unix.ENODEV {
		err = refusal
	}
	return l, ok, err
}

// linkRequest asks for one link, or for all. It leaves RTEXT_FILTER_VF out, which
// the library's LinkList and LinkByIndex ask for: hosts with hundreds of virtual
// functions answer with all of them.
func (k *Kernel) linkRequest(flags uint16, ifindex int) {
	k.rt.reset()
	k.rt.begin(unix.RTM_GETLINK, flags, k.rt.nextSeq())
	nl.DeserializeIfInfomsg(k.rt.zero(ifinfoLen)).Index = int32(ifindex)
	k.rt.u32(unix.IFLA_EXT_MASK, skipStats)
	k.rt.end()
}

// decodeLink reads a message of struct ifinfomsg and its attributes.
func decodeLink(b []byte) (netstate.Link, bool) {
	if len(b) < ifinfoLen {
		return netstate.Link{}, false
	}
	h := nl.DeserializeIfInfomsg(b)
	l := netstate.Link{Type: h.Type, Index: int(h.Index), Flags: h.Flags}
	a := attrsAfter(b, ifinfoLen)
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case unix.IFLA_IFNAME:
			l.Name = text(v)
		case unix.IFLA_ADDRESS:
			l.MAC = hardwareAddress(v)
		case unix.IFLA_MTU:
			l.MTU = u32At(v, 0)
		case unix.IFLA_MASTER:
			l.Master = int(int32(u32At(v, 0)))
		case unix.IFLA_OPERSTATE:
			l.OperState = u8At(v, 0)
		case unix.IFLA_LINKINFO:
			info := attrs(v)
			for typ, v, ok := info.next(); ok; typ, v, ok = info.next() {
				switch typ {
				case nl.IFLA_INFO_KIND:
					l.Kind = text(v)
				case nl.IFLA_INFO_SLAVE_KIND:
					l.PortKind = text(v)
				}
			}
		}
	}
	return l, l.Index > 0 && l.Name != ""
}

const hexDigits = "0123456789abcdef"

// hardwareAddress is a link-layer address as ip(8) prints it. Tunnels put an IP
// address there and lo zeros: neither is one.
func hardwareAddress(b []byte) string {
	if len(b) < 6 || len(b) == 16 {
		return ""
	}
	out := make([]byte, 0, 3*len(b))
	all := byte(0)
	for i, c := range b {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, hexDigits[c>>4], hexDigits[c&15])
		all |= c
	}
	if all == 0 {
		return ""
	}
	return string(out)
}

// linkID is what a link keeps as long as its hardware has not changed: index and
// name can be given to another device between two readings.
type linkID struct {
	index     int
	name, mac string
	typ       uint16
}

type hardware struct{ devType, driver string }

// learnHardware fills in what sysfs tells, and forgets the links that are gone.
func (k *Kernel) learnHardware(links []netstate.Link) {
	before := k.hardware
	k.hardware = make(map[linkID]hardware, len(links))
	for i := range links {
		id := hardwareID(links[i])
		if hw, ok := before[id]; ok {
			k.hardware[id] = hw
		}
	}
	k.recallHardware(links)
}

// recallHardware fills in what sysfs tells, asking once for each link.
func (k *Kernel) recallHardware(links []netstate.Link) {
	for i := range links {
		l := &links[i]
		id := hardwareID(*l)
		hw, ok := k.hardware[id]
		if !ok {
			var err error
			if hw, err = readHardware(sysClassNet, id); err != nil {
				continue // next time
			}
			k.hardware[id] = hw
		}
		l.DevType, l.Driver = hw.devType, hw.driver
	}
}

func hardwareID(l netstate.Link) linkID { return linkID{l.Index, l.Name, l.MAC, l.Type} }

// readHardware looks a link up in sysfs. sysfs shows the namespace in which it
// was mounted, which may be another one: only an equal ifindex is believed. An
// error is one that may pass.
func readHardware(root string, id linkID) (hardware, error) {
	if strings.ContainsRune(id.name, '/') || id.name == "." || id.name == ".." {
		return hardware{}, nil
	}
	dir := filepath.Join(root, id.name)
	b, err := os.ReadFile(filepath.Join(dir, "uevent"))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return hardware{}, nil
	case err != nil:
		return hardware{}, err
	}
	hw := hardware{}
	devType, ifindex := decodeUevent(b)
	if ifindex != strconv.Itoa(id.index) {
		return hw, nil
	}
	hw.devType = devType
	if target, err := os.Readlink(filepath.Join(dir, "device", "driver")); err == nil {
		hw.driver = filepath.Base(target)
	}
	return hw, nil
}

// decodeUevent reads lines of a key and a value.
func decodeUevent(b []byte) (devType, ifindex string) {
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "IFINDEX":
			ifindex = value
		case "DEVTYPE":
			devType = value
		}
	}
	return devType, ifindex
}
