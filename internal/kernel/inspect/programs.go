package inspect

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/subflowd/subflowd/internal/check"
)

// programs looks for processes that meddle, and at their configuration.
func (g *gatherer) programs() {
	own, _ := os.Readlink("/proc/thread-self/ns/net")
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range comms {
		b, err := os.ReadFile(path)
		name := strings.TrimSpace(string(b))
		if err != nil || !slices.Contains(check.Watched, name) {
			continue
		}
		dir := filepath.Dir(path)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		ns, err := os.Readlink(dir + "/ns/net")
		switch {
		case errors.Is(err, fs.ErrPermission) && name != check.Subflowd: // its socket answers everybody
			// Most hosts have but one namespace in which such programs run.
			g.cannot("whether "+name+" runs in this network namespace", "needs CAP_SYS_PTRACE")
		case err != nil || ns != own:
			continue
		}
		g.facts.Programs = append(g.facts.Programs, check.Program{Name: name, PID: pid})
	}
	slices.SortFunc(g.facts.Programs, func(a, b check.Program) int { return a.PID - b.PID })
	g.facts.NetworkManagerOff = g.networkManagerOff()
	g.facts.NetworkdKeepsRules = g.networkdKeepsRules()
}

// networkManagerOff reads the default of connection.mptcp-flags in the order of
// NetworkManager.conf(5): 1 is "disabled". A [connection] section that only holds
// for some devices switches nothing off as a whole.
func (g *gatherer) networkManagerOff() bool {
	off, section, limited := false, "", false
	files := append([]string{g.in.Root + "/etc/NetworkManager/NetworkManager.conf"},
		g.dropIns("/usr/lib/NetworkManager/conf.d", "/run/NetworkManager/conf.d", "/etc/NetworkManager/conf.d")...)
	for _, line := range g.iniLines(files) {
		if strings.HasPrefix(line, "[") {
			section, limited = strings.Trim(line, "[]"), false
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !strings.HasPrefix(section, "connection"):
		case key == "match-device":
			limited = true
		case key == "connection.mptcp-flags" && !limited:
			flags, err := strconv.ParseUint(value, 0, 32)
			off = off || err == nil && flags&1 != 0
		}
	}
	return off
}

// networkdKeepsRules reads networkd.conf(5): a later file wins.
func (g *gatherer) networkdKeepsRules() bool {
	keeps, section := false, ""
	var files []string
	for _, dir := range []string{"/usr/lib", "/usr/local/lib", "/run", "/etc"} {
		files = append(files, g.in.Root+dir+"/systemd/networkd.conf")
	}
	files = append(files, g.dropIns("/usr/lib/systemd/networkd.conf.d", "/usr/local/lib/systemd/networkd.conf.d",
		"/run/systemd/networkd.conf.d", "/etc/systemd/networkd.conf.d")...)
	for _, line := range g.iniLines(files) {
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if section == "[Network]" && strings.TrimSpace(key) == "ManageForeignRoutingPolicyRules" {
			switch strings.ToLower(strings.TrimSpace(value)) {
			case "no", "false", "off", "0", "n", "f":
				keeps = true
			default:
				keeps = false
			}
		}
	}
	return keeps
}

// dropIns are the *.conf files of directories, sorted by name; of one name the
// last directory's counts.
func (g *gatherer) dropIns(dirs ...string) []string {
	byName := map[string]string{}
	for _, dir := range dirs {
		files, _ := filepath.Glob(g.in.Root + dir + "/*.conf")
		for _, f := range files {
			byName[filepath.Base(f)] = f
		}
	}
	var names, out []string
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		out = append(out, byName[name])
	}
	return out
}

// iniLines are the lines of all files but comments.
func (g *gatherer) iniLines(files []string) []string {
	var lines []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrPermission) {
			g.cannot(f, "permission denied")
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line[0] != ';' {
				lines = append(lines, line)
			}
		}
	}
	return lines
}
