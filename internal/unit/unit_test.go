package unit

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const program = "/usr/bin/subflowctl"

var host = Host{
	Program:    program,
	Privileged: func(file string) bool { return strings.HasSuffix(file, "/setuid") },
	Label: func(file string) string {
		if strings.HasSuffix(file, "/labelled") {
			return "httpd_exec_t"
		}
		return "bin_t"
	},
}

const everything = 1<<41 - 1

// service is a unit of root with one command.
func service(args ...string) Unit {
	return Unit{Name: "a.service", Version: 252, Type: "simple", CapabilityBoundingSet: everything, AddressSpace: math.MaxUint64, Data: math.MaxUint64, Processes: 4096, Tasks: math.MaxUint64, Commands: []Command{{Path: args[0], Args: args}}}
}

// lines are those of a drop-in that are no comments.
func lines(text string) []string {
	return slices.DeleteFunc(strings.Split(strings.TrimSuffix(text, "\n"), "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
}

func TestDropIns(t *testing.T) {
	for _, c := range []struct {
		name string
		unit func(*Unit)
		want []string
	}{
		{"as Debian's nginx", func(u *Unit) {
			u.Type, u.PIDFile = "forking", "/run/nginx.pid"
			u.Commands = service("/usr/sbin/nginx", "-g", "daemon on; master_process on;").Commands
		}, []string{"ExecStart=/usr/bin/subflowctl run -- /usr/sbin/nginx -g \"daemon on; master_process on;\""}},
		{"several commands, with their prefixes", func(u *Unit) {
			u.Type = "oneshot"
			u.Commands = []Command{
				{"/bin/a", []string{"/bin/a"}, []string{"ignore-failure"}},
				{"/bin/b", []string{"bee", "x"}, []string{"privileged", "no-env-expand"}},
				{"/bin/c", []string{"/bin/c"}, []string{"ambient"}},
			}
		}, []string{
			"ExecStart=-/usr/bin/subflowctl run -- /bin/a",
			"ExecStart=+:/usr/bin/subflowctl run --argv0=bee -- /bin/b x",
			"ExecStart=!!/usr/bin/subflowctl run -- /bin/c",
		}},
		{"what systemd would read otherwise", func(u *Unit) {
			u.Commands = service("/bin/a", "", "100%", `C:\x`, `say "hi"`, "two\nlines", "$OPTIONS", "${A}b", "$$", ";", "-x", "ü", "it's").Commands
		}, []string{
			`ExecStart=/usr/bin/subflowctl run -- /bin/a "" 100%% "C:\\x" "say \"hi\"" "two\x0alines" $OPTIONS ${A}b $$ ";" -x "ü" "it's"`,
		}},
		{"a list of system calls that are allowed", func(u *Unit) {
			u.SystemCalls = SystemCalls{true, slices.DeleteFunc(slices.Clone(needed), func(n string) bool { return n == "seccomp" })}
		}, []string{"ExecStart=/usr/bin/subflowctl run -- /bin/a", "SystemCallFilter=seccomp"}},
		{"one of those that are not", func(u *Unit) {
			u.SystemCalls = SystemCalls{false, []string{"reboot", "seccomp:EPERM", "pidfd_open"}}
		}, []string{"ExecStart=/usr/bin/subflowctl run -- /bin/a", "SystemCallFilter=pidfd_open seccomp"}},
		{
			"files that may not be executed", func(u *Unit) { u.NoExecPaths = []string{"/"} },
			[]string{"ExecStart=/usr/bin/subflowctl run -- /bin/a", "ExecPaths=/usr/bin/subflowctl"},
		},
	} {
		u := service("/bin/a")
		c.unit(&u)
		text, err := DropIn(u, host)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if d := cmp.Diff(append([]string{"[Service]", "ExecStart="}, c.want...), lines(text)); d != "" {
			t.Errorf("%s (-wanted +found):\n%s", c.name, d)
		}
		if !strings.HasPrefix(text, "# Made by `subflowctl enable a.service`") {
			t.Errorf("%s: %s", c.name, text)
		}
	}
	text, err := DropIn(Unit{Name: "a.socket", Version: 257, Listen: []Listen{{"Stream", "[::]:22"}}}, host)
	if err != nil || !slices.Equal(lines(text), []string{"[Socket]", "SocketProtocol=mptcp"}) {
		t.Errorf("a socket unit: %v, %s", err, text)
	}
}

func TestRefusals(t *testing.T) {
	const admin = 1 << unix.CAP_SYS_ADMIN
	for _, c := range []struct {
		why  string // part of the message; empty where there is none
		unit func(*Unit)
	}{
		{"it is subflowd's own", func(u *Unit) { u.Name = "subflowd.service" }},
		{"it has no ExecStart=", func(u *Unit) { u.Commands = nil }},
		{"Type=forking without PIDFile=", func(u *Unit) { u.Type = "forking" }},
		{"", func(u *Unit) { u.Type, u.PIDFile = "forking", "/run/a.pid" }},
		{"Delegate=", func(u *Unit) { u.Delegate = true }},
		{"a root directory of its own", func(u *Unit) { u.RootDirectory = "/srv" }},
		{"a root directory of its own", func(u *Unit) { u.RootImage = "/srv.img" }},
		{"its LimitAS= of 1024 MiB", func(u *Unit) { u.AddressSpace = 1 << 30 }},
		{"its LimitDATA= of 64 MiB", func(u *Unit) { u.Data = 64 << 20 }},
		{"its TasksMax= of 10 is too little", func(u *Unit) { u.Tasks = 10 }},
		{"its LimitNPROC= of 10 is too little", func(u *Unit) { u.Processes, u.User = 10, "alice" }},
		{"", func(u *Unit) { u.Processes = 10 }}, // which does not bind root
		{"has /usr/bin/subflowctl out of its sight", func(u *Unit) { u.Hidden = []string{"-/usr/bin"} }},
		{"has /usr/bin/subflowctl out of its sight", func(u *Unit) { u.Hidden, u.Shown = []string{"/"}, []string{"/usr/lib", "/proc"} }},
		{"has /proc out of its sight", func(u *Unit) { u.Hidden, u.Shown = []string{"/"}, []string{"/usr"} }},
		{"", func(u *Unit) { u.Hidden, u.Shown = []string{"/", "/usr/bin/sub"}, []string{"/usr/", "/proc"} }},
		{"AppArmorProfile=", func(u *Unit) { u.AppArmor = "a" }},
		{"SELinuxContext=", func(u *Unit) { u.SELinuxContext = "a" }},
		{"/bin/labelled is httpd_exec_t, and subflowctl is bin_t", func(u *Unit) { u.Commands[0].Path = "/bin/labelled" }},
		{"has the prefix via-shell", func(u *Unit) { u.Commands[0].Flags = []string{"via-shell"} }},
		{"openvpn carries a VPN", func(u *Unit) { u.Commands[0].Path = "/usr/sbin/openvpn" }},
		{"", func(u *Unit) { u.Commands[0].Path = "/bin/setuid" }},
		{"gains privileges", func(u *Unit) { u.Commands[0].Path, u.User = "/bin/setuid", "alice" }},
		{"", func(u *Unit) { u.Commands[0].Path, u.User, u.NoNewPrivileges = "/bin/setuid", "alice", true }},
		{"", func(u *Unit) { u.Commands[0].Path, u.User, u.AmbientCapabilities = "/bin/setuid", "alice", admin }},
		{"gains privileges", func(u *Unit) { u.Commands[0].Path, u.CapabilityBoundingSet = "/bin/setuid", everything&^admin }},
		{"", func(u *Unit) {
			u.Commands[0].Path, u.User, u.Commands[0].Flags = "/bin/setuid", "alice", []string{"privileged"}
		}},
		{"systemd 252 does not know SocketProtocol=mptcp", func(u *Unit) { u.Name = "a.socket" }},
		{"listens for no TCP", func(u *Unit) {
			u.Name, u.Version, u.Listen = "a.socket", 257, []Listen{{"Stream", "/run/a"}, {"Stream", "@a"}, {"Datagram", "[::]:53"}}
		}},
		{"its SocketProtocol= is 132", func(u *Unit) {
			u.Name, u.Version, u.Protocol, u.Listen = "a.socket", 257, 132, []Listen{{"Stream", "[::]:53"}}
		}},
	} {
		u := service("/bin/a")
		c.unit(&u)
		_, err := DropIn(u, host)
		var r *Refusal
		switch {
		case c.why == "" && err != nil:
			t.Errorf("%+v: %v", u, err)
		case c.why != "" && (!errors.As(err, &r) || !strings.Contains(r.Reason, c.why)):
			t.Errorf("wanted %q, found %v", c.why, err)
		}
	}
	deaf := host
	deaf.Deaf = true
	if _, err := DropIn(service("/bin/a"), deaf); err == nil || !strings.Contains(err.Error(), "control groups of version 1") {
		t.Errorf("in a container with old control groups: %v", err)
	}
	elsewhere := host
	elsewhere.Program = "/home/me/subflowctl"
	if _, err := DropIn(service("/bin/a"), elsewhere); err == nil {
		t.Error("a program in a home directory is taken")
	}
}

// TestOwn: what is inside a wrapped command is the command.
func TestOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Command{Path: "/" + rapid.String().Draw(t, "path"), Args: rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "args")}
		if rapid.Bool().Draw(t, "named by its path") {
			c.Args[0] = c.Path
		}
		found, ok := own(wrapped(c, host))
		if d := cmp.Diff(c, found); d != "" || !ok {
			t.Fatalf("%v:\n%s", ok, d)
		}
	})
	for _, args := range [][]string{{"/bin/a"}, {program, "status"}, {program, "run", "a"}, {program, "run", "--argv0=x", "a"}, {"/bin/a", "run", "--", "b"}} {
		if _, ok := own(Command{Path: args[0], Args: args}); ok {
			t.Errorf("%q counts as wrapped", args)
		}
	}
}

func TestNames(t *testing.T) {
	for s, want := range map[string]string{
		"nginx": "nginx.service", "nginx.service": "nginx.service", "ssh.socket": "ssh.socket", "a@b": "a@b.service", `a\x2db`: `a\x2db.service`,
		"": "", "a@": "", "a@.service": "", "../a": "", "a.timer/b": "", "a b": "", "a.timer": "", "a.b": "a.b.service",
	} {
		if found, err := Name(s); found != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; wanted %q", s, found, err, want)
		}
	}
}

// fake is systemd with one unit, which reads the drop-in as systemd does.
type fake struct {
	vendor Unit
	file   string
	later  bool // another drop-in has the last word
	loaded Unit
	broken error // of Reload

	reloading func()
}

func (f *fake) Read(context.Context, string) (Unit, error) { return f.loaded, nil }

func (f *fake) Reload(ctx context.Context) error {
	if f.reloading != nil {
		f.reloading()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.loaded = f.vendor
	f.loaded.Commands = slices.Clone(f.vendor.Commands)
	if _, err := os.Stat(f.file); err == nil && !f.later {
		for i, c := range f.loaded.Commands {
			f.loaded.Commands[i] = wrapped(c, host)
		}
	}
	return f.broken
}

func changer(t *testing.T) (*fake, Changer) {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name+".d", FileName) }
	f := &fake{vendor: service("/bin/a", "-x"), file: path("a.service")}
	_ = f.Reload(t.Context())
	return f, Changer{Systemd: f, Host: host, Path: path}
}

func TestEnableAndDisable(t *testing.T) {
	f, c := changer(t)
	preview, err := c.Preview(t.Context(), "a.service")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is there
		file, err := c.Enable(t.Context(), "a.service")
		if err != nil || file != f.file {
			t.Fatalf("%s, %v", file, err)
		}
		if text, _ := os.ReadFile(file); string(text) != preview {
			t.Errorf("%s, wanted\n%s", text, preview)
		}
		if again, err := c.Preview(t.Context(), "a.service"); err != nil || again != preview {
			t.Errorf("a preview of what is enabled: %v\n%s", err, again)
		}
	}
	f.vendor.Commands[0].Args = []string{"/bin/a", "-y"}
	if _, err := c.Enable(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(f.file); !strings.Contains(string(text), "/bin/a -y") {
		t.Errorf("after an update: %s", text)
	}
	if file, err := c.Disable(t.Context(), "a.service"); file != f.file || err != nil {
		t.Errorf("%q, %v", file, err)
	}
	if _, err := os.Stat(filepath.Dir(f.file)); err == nil {
		t.Error("the directory is still there")
	}
	if file, err := c.Disable(t.Context(), "a.service"); file != "" || err != nil {
		t.Errorf("a second time: %q, %v", file, err)
	}
}

// TestFileOfAnother: a drop-in of that name which somebody else has made stays.
func TestFileOfAnother(t *testing.T) {
	f, c := changer(t)
	const text = "[Service]\nEnvironment=A=1\n"
	if err := write(f.file, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Enable(t.Context(), "a.service"); err == nil {
		t.Error("enabled")
	}
	if _, err := c.Disable(t.Context(), "a.service"); err == nil {
		t.Error("disabled")
	}
	if found, err := os.ReadFile(f.file); string(found) != text {
		t.Errorf("%q, %v", found, err)
	}
}

// TestInterrupted: a change that ends in the middle leaves the drop-in that was there, and systemd has read it.
func TestInterrupted(t *testing.T) {
	f, c := changer(t)
	if _, err := c.Enable(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(f.file)
	ctx, interrupt := context.WithCancel(t.Context())
	f.reloading = interrupt
	if _, err := c.Enable(ctx, "a.service"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(f.file); string(after) != string(before) {
		t.Errorf("%q, %v", after, err)
	}
	if _, wrapped := own(f.loaded.Commands[0]); !wrapped {
		t.Error("systemd has not read it")
	}
}

// TestNothingIsLeftOfAFailure: a unit that cannot be enabled is as it was.
func TestNothingIsLeftOfAFailure(t *testing.T) {
	for name, spoil := range map[string]func(*fake){
		"another drop-in has the last word": func(f *fake) { f.later = true },
		"an update that run would break":    func(f *fake) { f.vendor.Delegate = true },
		"systemd does not answer":           func(f *fake) { f.broken = errors.New("broken") },
	} {
		for _, enabled := range []bool{false, true} {
			f, c := changer(t)
			var before []byte
			if enabled {
				if _, err := c.Enable(t.Context(), "a.service"); err != nil {
					t.Fatal(err)
				}
				before, _ = os.ReadFile(f.file)
			}
			spoil(f)
			_ = f.Reload(t.Context())
			if _, err := c.Enable(t.Context(), "a.service"); err == nil {
				t.Errorf("%s: enabled", name)
			}
			after, err := os.ReadFile(f.file)
			if string(after) != string(before) || (err == nil) != enabled {
				t.Errorf("%s, enabled before %v: %v\n%s", name, enabled, err, after)
			}
		}
	}
}
