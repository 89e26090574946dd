package unit

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Refusal is why a unit is left as it is.
type Refusal struct {
	Name   string
	Reason string
}

func (r *Refusal) Error() string { return r.Name + " is left as it is: " + r.Reason }

// minAddressSpace is what Go's runtime reserves at the start, and some more: it
// starts with 1.5 GiB and not with 1.2 (64 bit).
const minAddressSpace = 2 << 30

// minData likewise: it does not start with 40 MB, and does with 80.
const minData = 128 << 20

// minProcesses is what the start takes of processes and threads (some 25) and
// the supervisor keeps (6), and some more for the program.
const minProcesses = 64

// firstMPTCP is the version of systemd that knows SocketProtocol=mptcp.
const firstMPTCP = 257

// transports are programs whose connections carry a VPN. By several paths such
// a connection may run through what it carries, and gains nothing that the
// connections inside it would not have by themselves.
var transports = []string{
	"openvpn", "openconnect", "ocserv", "vpnc", "sstpc", "sstp-client", "pppd", "xl2tpd", "charon", "charon-systemd", "pluto", "starter",
	"tailscaled", "tincd", "zerotier-one", "nebula", "wireguard-go", "boringtun", "fastd", "softether", "vpnserver", "vpnclient",
}

func refuse(u Unit, h Host) error {
	reason := reasonOfService
	if u.IsSocket() {
		reason = reasonOfSocket
	}
	if err := reason(u, h); err != nil {
		return &Refusal{Name: u.Name, Reason: err.Error()}
	}
	return nil
}

func reasonOfSocket(u Unit, _ Host) error {
	stream := func(l Listen) bool {
		return l.Kind == "Stream" && !strings.HasPrefix(l.Address, "/") && !strings.HasPrefix(l.Address, "@")
	}
	switch {
	case u.Version < firstMPTCP:
		return fmt.Errorf("systemd %d does not know SocketProtocol=mptcp, which came with %d; run does not reach a socket that systemd makes", u.Version, firstMPTCP)
	case !slices.ContainsFunc(u.Listen, stream):
		return errors.New("it listens for no TCP")
	case u.Protocol != 0 && u.Protocol != unix.IPPROTO_TCP && u.Protocol != unix.IPPROTO_MPTCP:
		return fmt.Errorf("its SocketProtocol= is %d", u.Protocol)
	}
	return nil
}

func reasonOfService(u Unit, h Host) error {
	switch {
	case u.Name == "subflowd.service":
		return errors.New("it is subflowd's own")
	case len(u.Commands) == 0:
		return errors.New("it has no ExecStart=")
	case u.Type == "forking" && u.PIDFile == "":
		return errors.New("it is of Type=forking without PIDFile=: systemd guesses its main process, and the supervisor would be another candidate")
	case u.Delegate:
		return errors.New("it moves its processes to control groups of their own (Delegate=), where they keep plain TCP")
	case u.RootDirectory != "" || u.RootImage != "":
		return errors.New("it has a root directory of its own, where subflowctl is not")
	case u.SELinuxContext != "":
		return errors.New("its SELinuxContext= would be that of subflowctl too, and is not made for it")
	case u.AppArmor != "":
		return errors.New("its AppArmorProfile= would be that of subflowctl too, and is not made for it")
	case u.AddressSpace < minAddressSpace:
		return fmt.Errorf("its LimitAS= of %d MiB is too little for subflowctl to start in; what it uses is far less", u.AddressSpace>>20)
	case u.Data < minData:
		return fmt.Errorf("its LimitDATA= of %d MiB is too little for subflowctl to start in; what it uses is far less", u.Data>>20)
	case u.Tasks < minProcesses:
		return fmt.Errorf("its TasksMax= of %d is too little for run, its supervisor and the program together", u.Tasks)
	case u.Processes < minProcesses && !u.root():
		return fmt.Errorf("its LimitNPROC= of %d is too little for run, its supervisor and the program together", u.Processes)
	case u.hides(h.Program):
		return fmt.Errorf("it has %s out of its sight (InaccessiblePaths=, TemporaryFileSystem=)", h.Program)
	case u.hides("/proc"):
		return errors.New("it has /proc out of its sight, which run needs")
	case h.Deaf:
		return errors.New("in a container with control groups of version 1 systemd is not told when the last process of a unit has ended, and would wait for the supervisor until its timeout")
	case !installed(h.Program):
		return fmt.Errorf("%s is no place for a program that services start: install it first", h.Program)
	}
	for _, c := range u.Commands {
		if err := reasonOfCommand(u, c, h); err != nil {
			return err
		}
	}
	return nil
}

func reasonOfCommand(u Unit, c Command, h Host) error {
	for _, f := range c.Flags {
		if _, ok := prefixes[f]; !ok {
			return fmt.Errorf("its command has the prefix %s, which subflowctl does not know", f)
		}
	}
	switch name := path.Base(c.Path); {
	case slices.Contains(transports, name):
		return fmt.Errorf("%s carries a VPN: the connections inside it can use Multipath TCP themselves", name)
	case h.Label(c.Path) != h.Label(h.Program):
		return fmt.Errorf("SELinux chooses its domain by the file that systemd executes: %s is %s, and subflowctl is %s", c.Path, h.Label(c.Path), h.Label(h.Program))
	case u.Promises(c) && h.Privileged(c.Path):
		return fmt.Errorf("%s gains privileges when it is executed, and run would keep it from that (no_new_privs)", c.Path)
	}
	return nil
}

// Promises tells whether run gives the command no_new_privs that it has not
// got: it does so without CAP_SYS_ADMIN.
func (u Unit) Promises(c Command) bool {
	if u.NoNewPrivileges || slices.Contains(c.Flags, "privileged") {
		return false
	}
	const admin = uint64(1) << unix.CAP_SYS_ADMIN
	root := u.root() || slices.Contains(c.Flags, "no-setuid")
	return u.CapabilityBoundingSet&admin == 0 || !root && u.AmbientCapabilities&admin == 0
}

func (u Unit) root() bool { return slices.Contains([]string{"", "root", "0"}, u.User) }

// hides tells whether the unit does not see a file that the host has.
func (u Unit) hides(file string) bool {
	deepest := func(dirs []string) int {
		n := -1
		for _, d := range dirs {
			// A sign before the path says that it may be missing (systemd.exec(5)).
			d = strings.TrimRight(strings.TrimLeft(d, "-+"), "/")
			if file == d || strings.HasPrefix(file, d+"/") {
				n = max(n, len(d))
			}
		}
		return n
	}
	return deepest(u.Hidden) > deepest(u.Shown)
}

// installed tells whether services see the file: they may have no home
// directories, and temporary directories of their own.
func installed(file string) bool {
	return !slices.ContainsFunc([]string{"/home", "/root", "/tmp", "/var/tmp", "/run", "/dev"}, func(dir string) bool {
		return strings.HasPrefix(file, dir+"/")
	})
}
