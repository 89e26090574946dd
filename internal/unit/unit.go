// Package unit makes the drop-ins by which systemd starts a service's own
// command by `subflowctl run`, or listens with Multipath TCP for a socket unit.
// What it decides, it decides from the properties of the unit alone.
//
// The files: unit (what is known of one), dropin (its text), refuse (what would
// break), bus (systemd's D-Bus interface), change (enable and disable).
package unit

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Unit is a loaded unit as systemd tells it, after its drop-ins, specifiers
// and quotes. Of a socket unit only Name, Version, Listen and Protocol count.
type Unit struct {
	Name    string // without aliases: nginx.service
	Version int    // of systemd

	Type, PIDFile            string
	Commands                 []Command // ExecStart
	User                     string
	AmbientCapabilities      uint64
	CapabilityBoundingSet    uint64
	NoNewPrivileges          bool
	Delegate                 bool
	RootDirectory, RootImage string
	SELinuxContext, AppArmor string // what the unit sets
	NoExecPaths              []string
	AddressSpace, Data       uint64   // LimitAS= and LimitDATA=, in bytes; the largest number is no limit
	Processes, Tasks         uint64   // LimitNPROC= and TasksMax=, likewise
	Hidden, Shown            []string // paths that are out of its sight, and those of them that are back by a bind mount
	SystemCalls              SystemCalls

	Listen   []Listen
	Protocol int // of the sockets; 0 leaves it to the kernel
}

// Command is one ExecStart line.
type Command struct {
	Path  string
	Args  []string // from argv[0] on; $VARIABLES are not replaced yet
	Flags []string // prefixes by their names on D-Bus: ignore-failure
}

// SystemCalls is SystemCallFilter: names that alone are allowed, or that are
// forbidden.
type SystemCalls struct {
	Allow bool
	Names []string
}

// Listen is one address of a socket unit.
type Listen struct {
	Kind    string // Stream, Datagram, FIFO
	Address string
}

// Host is what matters beside the unit.
type Host struct {
	Program    string                   // the path of subflowctl
	Privileged func(file string) bool   // set-user-ID, set-group-ID or with capabilities
	Label      func(file string) string // of SELinux; the same for all files where it is off
	Deaf       bool                     // systemd is not told when a control group has become empty
}

// FileName is that of the drop-ins: the last one, so that it follows an
// administrator's override.conf.
const FileName = "zz-subflowd.conf"

// Path is that of a unit's drop-in.
func Path(name string) string {
	return path.Join("/etc/systemd/system", name+".d", FileName)
}

// otherKinds are the suffixes of units that are started by no command.
var otherKinds = []string{".target", ".timer", ".path", ".mount", ".automount", ".swap", ".slice", ".scope", ".device"}

var validName = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.(service|socket)$`)

// Name completes what a user calls a unit, as systemctl(1) does.
func Name(s string) (string, error) {
	if slices.Contains(otherKinds, path.Ext(s)) {
		return "", fmt.Errorf("%s is neither a service nor a socket unit", s)
	}
	name := s
	if !strings.HasSuffix(s, ".service") && !strings.HasSuffix(s, ".socket") {
		name += ".service"
	}
	switch {
	case !validName.MatchString(name):
		return "", fmt.Errorf("%q is no name of a service or socket unit", s)
	case strings.Contains(name, "@."):
		return "", fmt.Errorf("%s is a template: name an instance of it", name)
	}
	return name, nil
}

// IsSocket tells whether the unit is a socket unit.
func (u Unit) IsSocket() bool { return strings.HasSuffix(u.Name, ".socket") }
