package lease

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// client is a DHCP client with one directory in which it keeps leases.
type client struct {
	name string
	dir  string // below the root
	// file names the one file of a link; or, where that is nil, ofLink tells
	// whether a name in the directory is one of the link's.
	file   func(netstate.Link) string
	ofLink func(name string, l netstate.Link) bool
	decode func(b []byte, l netstate.Link, written time.Time) []lease
	logged bool // the end of a long file is the part that counts
}

// clients are asked in this order: what goes with the boot before what may be
// of an earlier one.
var clients = []client{
	{
		name: "systemd-networkd", dir: "run/systemd/netif/leases", file: byIndex,
		decode: func(b []byte, _ netstate.Link, _ time.Time) []lease { return decodeNetworkd(b) },
	},
	{
		name: "NetworkManager", dir: "run/NetworkManager/devices", file: byIndex,
		decode: func(b []byte, _ netstate.Link, _ time.Time) []lease { return decodeDeviceState(b) },
	},
	dhclient("NetworkManager", "var/lib/NetworkManager"),
	{
		name: "NetworkManager", dir: "var/lib/NetworkManager",
		ofLink: func(name string, l netstate.Link) bool {
			return strings.HasPrefix(name, "internal-") && strings.HasSuffix(name, "-"+l.Name+".lease")
		},
		decode: func(b []byte, _ netstate.Link, written time.Time) []lease { return decodeKeptNetworkd(b, written) },
	},
	dhclient("dhclient", "var/lib/dhcp"),     // Debian, SUSE
	dhclient("dhclient", "var/lib/dhclient"), // Red Hat
	dhcpcd("var/lib/dhcpcd"),
	dhcpcd("var/lib/dhcpcd5"), // Debian's package of version 7 and older
}

func byIndex(l netstate.Link) string { return strconv.Itoa(l.Index) }

// dhclient is ISC dhclient, by whomever it is started: dhclient.leases by itself,
// dhclient.eth1.leases by ifupdown, dhclient-UUID-eth1.lease by NetworkManager.
// The link is named inside as well.
func dhclient(name, dir string) client {
	return client{
		name: name, dir: dir, logged: true,
		ofLink: func(name string, l netstate.Link) bool {
			name, ok := strings.CutSuffix(strings.TrimSuffix(name, "s"), ".lease")
			return ok && strings.HasPrefix(name, "dhclient") &&
				(name == "dhclient" || strings.HasSuffix(name, "."+l.Name) || strings.HasSuffix(name, "-"+l.Name))
		},
		decode: func(b []byte, l netstate.Link, _ time.Time) []lease { return decodeISC(b, l.Name) },
	}
}

// dhcpcd has eth1.lease, and wlan0-SSID.lease for each wireless network; before
// version 7 with dhcpcd- before the name.
func dhcpcd(dir string) client {
	return client{
		name: "dhcpcd", dir: dir,
		ofLink: func(name string, l netstate.Link) bool {
			name, ok := strings.CutSuffix(strings.TrimPrefix(name, "dhcpcd-"), ".lease")
			return ok && (name == l.Name || strings.HasPrefix(name, l.Name+"-"))
		},
		decode: func(b []byte, _ netstate.Link, written time.Time) []lease { return decodePacket(b, written) },
	}
}

// Bounds for what other programs, and through them DHCP servers, can have us read.
const (
	maxFile  = 64 << 10
	maxLog   = 256 << 10
	maxNames = 4096 // of one directory
	maxFiles = 16   // of one client for one link, the newest
)

// file is one that was read, for one link.
type file struct {
	path   string // without the test root
	leases []lease
	stamp  stamp
	fresh  bool
	used   bool
}

// stamp changes with the file. A file that was written to within the resolution
// of its times has the same one, so that it holds only for what is not fresh.
type stamp struct {
	dev, ino uint64
	size     int64
	mtime    time.Time
	ctime    syscall.Timespec
}

func stampOf(i fs.FileInfo) stamp {
	s := stamp{size: i.Size(), mtime: i.ModTime()}
	if st, ok := i.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.ctime = uint64(st.Dev), st.Ino, st.Ctim
	}
	return s
}

// isFresh is true too where a clock that was set back leaves the time of a write
// just ahead.
func (s stamp) isFresh(now time.Time) bool { return now.Sub(s.mtime).Abs() < fresh }

type fileKey struct {
	client *client
	link   string
	name   string
}

type listing struct {
	names []string
	stamp stamp
	fresh bool
	asked bool // in this call
}

// files remembers what was read.
type files struct {
	root  string
	read  map[fileKey]*file
	lists map[*client]*listing
}

// begin starts a call of the reader, end ends it: what nobody asked for
// meanwhile is forgotten.
func (f *files) begin(root string) {
	if root == "" {
		root = "/"
	}
	if f.read == nil || root != f.root {
		f.root, f.read, f.lists = root, map[fileKey]*file{}, map[*client]*listing{}
	}
	for _, x := range f.read {
		x.used = false
	}
	for _, x := range f.lists {
		x.asked = false
	}
}

func (f *files) end() {
	for key, x := range f.read {
		if !x.used {
			delete(f.read, key)
		}
	}
}

// of returns the files of a client that may be about a link, newest first.
func (f *files) of(c *client, l netstate.Link, now time.Time) []*file {
	if c.file != nil {
		if x := f.get(c, l, c.file(l), now); x != nil {
			return []*file{x}
		}
		return nil
	}
	var list []*file
	for _, name := range f.names(c, now) {
		if !c.ofLink(name, l) {
			continue
		}
		if x := f.get(c, l, name, now); x != nil {
			list = append(list, x)
		}
	}
	slices.SortStableFunc(list, func(a, b *file) int { return b.stamp.mtime.Compare(a.stamp.mtime) })
	return list[:min(len(list), maxFiles)]
}

// names lists the directory of a client.
func (f *files) names(c *client, now time.Time) []string {
	old := f.lists[c]
	if old != nil && old.asked {
		return old.names
	}
	path := filepath.Join(f.root, c.dir)
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		delete(f.lists, c)
		return nil
	}
	s := stampOf(info)
	if old != nil && old.stamp == s && !old.fresh {
		old.asked = true
		return old.names
	}
	l := &listing{stamp: s, fresh: s.isFresh(now), asked: true}
	if d, err := os.Open(path); err == nil {
		l.names, _ = d.Readdirnames(maxNames)
		_ = d.Close()
		slices.Sort(l.names)
	}
	f.lists[c] = l
	return l.names
}

// get reads a file, if it changed; nil if there is nothing to read.
func (f *files) get(c *client, l netstate.Link, name string, now time.Time) *file {
	path := filepath.Join(f.root, c.dir, name)
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	key := fileKey{c, l.Name, name}
	s := stampOf(info)
	if old := f.read[key]; old != nil && old.stamp == s && !old.fresh {
		old.used = true
		return old
	}
	x := &file{path: "/" + c.dir + "/" + name, stamp: s, fresh: s.isFresh(now), used: true}
	if b, err := readBounded(path, c.logged); err == nil {
		x.leases = c.decode(b, l, s.mtime)
	}
	f.read[key] = x
	return x
}

// readBounded reads a regular file, or of a long log its end. It does not block
// on what has become something else meanwhile.
func readBounded(path string, logged bool) ([]byte, error) {
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return nil, err
	}
	most, from := int64(maxFile), int64(0)
	if logged {
		most = maxLog
		from = max(info.Size()-maxLog, 0)
	}
	if !info.Mode().IsRegular() || info.Size() > most && !logged {
		return nil, fs.ErrInvalid
	}
	b, err := io.ReadAll(io.NewSectionReader(d, from, most))
	if from > 0 {
		b = iscTail(b)
	}
	return b, err
}
