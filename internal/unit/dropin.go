package unit

import (
	"fmt"
	"slices"
	"strings"
)

// prefixes are the special characters before a command (systemd.service(5)),
// by the names of their flags on D-Bus.
var prefixes = map[string]string{
	"ignore-failure": "-", "privileged": "+", "no-setuid": "!", "ambient": "!!", "no-env-expand": ":",
}

// needed are the system calls that run and its supervisor make before and
// beside the program's own. A list that allows @system-service lacks seccomp.
var needed = []string{
	"arch_prctl", "brk", "chdir", "clone", "clone3", "close", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2", "execve",
	"exit_group", "faccessat2", "fcntl", "fstat", "futex", "getdents64", "getpid", "getrandom", "gettid", "ioctl", "madvise", "mmap",
	"mprotect", "munmap", "nanosleep", "newfstatat", "openat", "pidfd_open", "ppoll", "prctl", "pread64", "prlimit64", "read", "recvmsg",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield", "seccomp", "sendmsg", "setfsgid", "setfsuid",
	"setsid", "sigaltstack", "socket", "socketpair", "tgkill", "wait4", "write",
}

// Each drop-in begins with mark.
const (
	mark = "# Made by `subflowctl enable "
	head = mark + "%[1]s`, taken away by `subflowctl disable %[1]s`.\n"
)

// DropIn returns the text of the unit's drop-in, or a *Refusal.
func DropIn(u Unit, h Host) (string, error) {
	if err := refuse(u, h); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, head, u.Name)
	if u.IsSocket() {
		b.WriteString("[Socket]\nSocketProtocol=mptcp\n")
		return b.String(), nil
	}
	b.WriteString("[Service]\n# Its own command, by run. After a change of that: `subflowctl enable` again.\nExecStart=\n")
	for _, c := range u.Commands {
		b.WriteString("ExecStart=" + line(wrapped(c, h)) + "\n")
	}
	if missing := u.SystemCalls.missing(); len(missing) > 0 {
		b.WriteString("# What run needs, and the list of the unit lacks.\nSystemCallFilter=" + strings.Join(missing, " ") + "\n")
	}
	if len(u.NoExecPaths) > 0 {
		b.WriteString("ExecPaths=" + quote(h.Program) + "\n")
	}
	return b.String(), nil
}

// missing are the calls that have to be allowed besides.
func (f SystemCalls) missing() []string {
	var all []string
	for _, n := range needed {
		// A name may have an errno of its own: "seccomp:EPERM".
		listed := slices.ContainsFunc(f.Names, func(s string) bool {
			s, _, _ = strings.Cut(s, ":")
			return s == n
		})
		if listed != f.Allow {
			all = append(all, n)
		}
	}
	return all
}

// wrapped is the command by run. It keeps the prefixes: what they give the
// command they give run, which executes it in its own place.
func wrapped(c Command, h Host) Command {
	w := Command{Path: h.Program, Args: []string{h.Program, "run"}, Flags: c.Flags}
	args := []string{c.Path}
	if len(c.Args) > 0 {
		if c.Args[0] != c.Path {
			w.Args = append(w.Args, "--argv0="+c.Args[0])
		}
		args = append(args, c.Args[1:]...)
	}
	w.Args = append(append(w.Args, "--"), args...)
	return w
}

// own is the command inside a wrapped one, and false for one that is not.
func own(c Command) (Command, bool) {
	if len(c.Args) < 4 || c.Args[1] != "run" || !strings.HasSuffix(c.Path, "/subflowctl") {
		return c, false
	}
	rest := c.Args[2:]
	argv0, named := strings.CutPrefix(rest[0], "--argv0=")
	if named {
		rest = rest[1:]
	}
	if len(rest) < 2 || rest[0] != "--" {
		return c, false
	}
	args := slices.Clone(rest[1:])
	if named {
		args[0] = argv0
	}
	return Command{Path: rest[1], Args: args, Flags: c.Flags}, true
}

// line writes a command for a unit file.
func line(c Command) string {
	var b strings.Builder
	for _, f := range c.Flags {
		b.WriteString(prefixes[f])
	}
	for i, a := range c.Args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(quote(a))
	}
	return b.String()
}

const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+:,./@${}~^*?[]()<>|&#!%"

// quote writes an argument so that systemd reads it back (systemd.syntax(7),
// "Quoting"). Specifiers have been replaced, so a percent sign is meant. A
// dollar sign is replaced after quotes are gone, so none would keep it.
func quote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	strange := func(r rune) bool { return !strings.ContainsRune(harmless, r) }
	if s != "" && strings.IndexFunc(s, strange) < 0 {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
