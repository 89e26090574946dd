package run

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Programs are those that supervisors serve now in this PID namespace, as far
// as /proc shows them.
type Programs struct {
	proc    string
	started map[int]uint64 // by the process that run became: when its supervisor was started
}

// FindPrograms looks for supervisors.
func FindPrograms() *Programs { return findPrograms("/proc") }

func findPrograms(proc string) *Programs {
	p := &Programs{proc, map[int]uint64{}}
	all, _ := os.ReadDir(proc)
	for _, d := range all {
		supervisor, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, d.Name(), "cmdline"))
		served, ok := servedBy(text)
		if err != nil || !ok {
			continue
		}
		if s, ok := p.process(supervisor); ok {
			p.started[served] = max(s.started, p.started[served])
		}
	}
	return p
}

// servedBy reads /proc/PID/cmdline of a supervisor; false for all others.
func servedBy(cmdline []byte) (pid int, ok bool) {
	args := strings.Split(string(cmdline), "\x00")
	if len(args) < 4 || !slices.Equal(args[1:3], []string{Command, stageServe}) {
		return 0, false
	}
	pid, err := strconv.Atoi(args[3])
	return pid, err == nil
}

// Has tells whether a process was started by run, or descends from one that
// was. An orphan is known by the session or process group that such a process
// began. Wherever it cannot be told, it is false.
func (p *Programs) Has(pid int) bool {
	if len(p.started) == 0 || !p.filtered(pid) {
		return false
	}
	s, ok := p.process(pid)
	if !ok {
		return false
	}
	if p.began(s.group) || p.began(s.session) {
		return true
	}
	for id := pid; ok && id > 1; s, ok = p.process(id) {
		if p.began(id) {
			return true
		}
		id = s.parent
	}
	return false
}

// began tells whether a process number is, or was, that of a program of run. The
// number of one that has ended goes to a new process, but not while a group or
// session has it too (alloc_pid, kernel/pid.c).
func (p *Programs) began(pid int) bool {
	supervised, ok := p.started[pid]
	if !ok {
		return false
	}
	now, lives := p.process(pid)
	return !lives || now.started <= supervised
}

// filtered tells whether a process carries a seccomp filter, as all under run do.
func (p *Programs) filtered(pid int) bool {
	text, err := os.ReadFile(filepath.Join(p.proc, strconv.Itoa(pid), "status"))
	return err == nil && bytes.Contains(text, []byte("\nSeccomp:\t2\n"))
}

type process struct {
	parent, group, session int
	started                uint64 // clock ticks since boot
}

// process reads /proc/PID/stat (proc(5)); the name in it may hold any byte.
func (p *Programs) process(pid int) (process, bool) {
	text, err := os.ReadFile(filepath.Join(p.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, false
	}
	return decodeStat(text)
}

func decodeStat(text []byte) (process, bool) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return process{}, false
	}
	var s process
	for i, to := range []*int{&s.parent, &s.group, &s.session} {
		*to, _ = strconv.Atoi(fields[1+i])
	}
	started, err := strconv.ParseUint(fields[19], 10, 64)
	s.started = started
	return s, err == nil
}
