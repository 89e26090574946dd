// Package top drives `subflowctl top` in a real terminal, tmux(1), on hosts made of network namespaces, and compares what
// is on the screen.
package top

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/subflowd/subflowd/test/lab"
)

// soon is how long a test waits for what takes milliseconds: the machine may be busy.
const soon = 30 * time.Second

var update = flag.Bool("update", false, "write the screens that are found to testdata")

// terminal is a window of tmux with a shell, in a host's namespace.
type terminal struct {
	t       *testing.T
	host    *lab.Host
	socket  string
	started int // programs
}

// openTerminal opens a terminal with an environment of KEY=VALUE entries. What is in it ends with the test.
func openTerminal(t *testing.T, h *lab.Host, w, height int, env ...string) *terminal {
	t.Helper()
	lab.Need(t, "tmux")
	dir := h.Lab.TempDir()
	x := &terminal{t: t, host: h, socket: filepath.Join(dir, "tmux")}
	config := filepath.Join(dir, "tmux.conf")
	// The terminal that most people have; no line of tmux's own; no second chance for Escape to begin a key.
	err := os.WriteFile(config, []byte("set -g default-terminal xterm-256color\nset -g status off\nset -s escape-time 0\n"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command("tmux", "-u", "-S", x.socket, "-f", config, "new-session", "-d", "-x", fmt.Sprint(w), "-y", fmt.Sprint(height), "/bin/sh")
	cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8", "ENV=")
	cmd.Env = append(cmd.Env, env...)
	if p := h.StartCommand(cmd); p.Wait(soon) != 0 {
		t.Fatalf("tmux new-session: %s", p.Log())
	}
	return x
}

func (x *terminal) tmux(args ...string) string {
	x.t.Helper()
	return x.host.Run("tmux", append([]string{"-u", "-S", x.socket}, args...)...)
}

// press sends keys by tmux's names.
func (x *terminal) press(keys ...string) {
	x.t.Helper()
	x.tmux(append([]string{"send-keys"}, keys...)...)
}

// line types a line.
func (x *terminal) line(text string) {
	x.t.Helper()
	x.tmux("send-keys", "-l", text)
	x.press("Enter")
}

func (x *terminal) resize(w, h int) {
	x.t.Helper()
	x.tmux("resize-window", "-x", fmt.Sprint(w), "-y", fmt.Sprint(h))
}

// screen is what is to be seen; with escapes its colours too.
func (x *terminal) screen(escapes bool) string {
	x.t.Helper()
	args := []string{"capture-pane", "-p"}
	if escapes {
		args = append(args, "-e")
	}
	return x.tmux(args...)
}

// want waits for a text on the screen.
func (x *terminal) want(text string) {
	x.t.Helper()
	lab.Eventually(x.t, soon, "screen", func() error {
		if s := x.screen(false); !strings.Contains(s, text) {
			return fmt.Errorf("wanted %q in\n%s", text, s)
		}
		return nil
	})
}

// start starts a program whose end want can wait for: it says how it ended, and whether the terminal is as it was.
func (x *terminal) start(command string) {
	x.t.Helper()
	x.started++
	x.line(fmt.Sprintf(`before=$(stty -g); %s; echo "exit $? of %d"; [ "$(stty -g)" = "$before" ] && echo as before`, command, x.started))
}

// ended waits for the end of what start started.
func (x *terminal) ended(code int) {
	x.t.Helper()
	x.want(fmt.Sprintf("exit %d of %d\nas before\n", code, x.started))
	x.wantOutside()
}

// wantOutside wants the terminal as shells have it.
func (x *terminal) wantOutside() {
	x.t.Helper()
	if found := strings.TrimSpace(x.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}")); found != "0 1 0" {
		x.t.Errorf("alternate screen, cursor, mouse: %s, wanted 0 1 0", found)
	}
}

// wantScreen waits until the screen is that of a file, values aside.
func (x *terminal) wantScreen(name string) {
	x.t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		x.settle()
		if err := os.WriteFile(file, []byte(normal(x.screen(false))), 0o644); err != nil {
			x.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		x.t.Fatal(err)
	}
	lab.Eventually(x.t, soon, "screen "+name, func() error {
		s := x.screen(false)
		if found := normal(s); found != string(want) {
			return fmt.Errorf("%s, wanted (-) and found (+; -update writes it):\n%s\nthe screen:\n%s", file, lab.Diff(string(want), found), s)
		}
		return nil
	})
}

// settle waits until two screens are the same, values aside.
func (x *terminal) settle() {
	x.t.Helper()
	last, same := "", 0
	lab.Eventually(x.t, soon, "a screen that stays", func() error {
		s := normal(x.screen(false))
		if s != last {
			last, same = s, 0
		}
		if same++; same < 12 {
			return fmt.Errorf("changing:\n%s", s)
		}
		return nil
	})
}

// values are what differs from run to run. All keep their columns.
var values = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\d\d:\d\d:\d\d`), "hh:mm:ss"},
	{regexp.MustCompile(`:[3-6]\d{4}\b`), ":PPPPP"},
	{regexp.MustCompile(`\[\d+\]`), "[P]"},
	{regexp.MustCompile(`\bip (-[46] )?(mptcp|rule|route) .*`), "ip CHANGE"}, // whichever of the daemon's is the last
	{regexp.MustCompile(`\bto [\d.]+ [kM]bit/s *`), "to PEAK"},
	{regexp.MustCompile(` +[\d.]+ [kM]bit/s`), "RATE"},
	{regexp.MustCompile(` +\d+%`), "PART"},
	{regexp.MustCompile(` [█▏▎▍▌▋▊▉]+ *PART`), "BAR PART"},
	{regexp.MustCompile(`(?m) +[\d.]+ (us|ms|s)$`), "RTT"},
	{regexp.MustCompile(`[▁▂▃▄▅▆▇█]`), "#"},
}

// normal puts words in the place of values: at the right of their columns, like numbers, or else at the left.
func normal(screen string) string {
	for _, v := range values {
		screen = v.pattern.ReplaceAllStringFunc(screen, func(s string) string {
			blanks := strings.Repeat(" ", max(0, utf8.RuneCountInString(s)-len(v.word)))
			if strings.HasPrefix(s, " ") {
				return blanks + v.word
			}
			return v.word + blanks
		})
	}
	lines := strings.Split(screen, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// paused checks that two looks a while apart are the same.
func (x *terminal) paused() {
	x.t.Helper()
	before := x.screen(false)
	lab.Never(x.t, time.Second, "a paused screen stays", func() error {
		if s := x.screen(false); s != before {
			return fmt.Errorf("now:\n%s\nbefore:\n%s", s, before)
		}
		return nil
	})
}

// signal sends a signal to the process whose number is in a file.
func (x *terminal) signal(file string, s syscall.Signal) {
	x.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		x.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err == nil {
		err = syscall.Kill(pid, s)
	}
	if err != nil {
		x.t.Fatalf("send %v to the process of %s, %q: %v", s, file, text, err)
	}
}
