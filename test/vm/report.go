package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// report prints a line for each test, and for those that failed what they printed.
type report struct {
	out      io.Writer
	convert  string // go tool test2json
	finished bool
	suites   []*outcome
	running  *running
}

// outcome is what came of one package.
type outcome struct {
	name           string
	passed, failed int
	took           time.Duration
}

// running is the package whose tests run now.
type running struct {
	*outcome
	started time.Time
	open    map[string]*test // that have begun
	other   []string         // what belongs to no test
	in      io.WriteCloser   // of test2json
	done    chan error
	cmd     *exec.Cmd
}

// test is one that runs, with its subtests.
type test struct {
	text    []string
	skipped bool
	took    float64 // of the longest part in seconds: parts that run beside each other do not count for the whole
}

// event is what test2json prints.
type event struct {
	Action, Test, Output string
	Elapsed              float64
}

func newReport(out io.Writer, convert string) *report { return &report{out: out, convert: convert} }

func (r *report) begin(name string) error {
	s := &running{outcome: &outcome{name: name}, started: time.Now(), open: map[string]*test{}, done: make(chan error, 1)}
	s.cmd = exec.Command(r.convert, "-t")
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	events, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start test2json: %w", err)
	}
	r.suites, r.running = append(r.suites, s.outcome), s
	go func() {
		d := json.NewDecoder(events)
		for {
			var e event
			if err := d.Decode(&e); err != nil {
				if err == io.EOF {
					err = nil
				}
				s.done <- err
				return
			}
			r.event(s, e)
		}
	}()
	return nil
}

// line is one line of the package's tests.
func (r *report) line(text string) error {
	if r.running == nil {
		return nil
	}
	_, err := io.WriteString(r.running.in, text+"\n")
	return err
}

func (r *report) event(s *running, e event) {
	name, _, sub := strings.Cut(e.Test, "/")
	if name == "" {
		if e.Action == "output" {
			s.other = append(s.other, e.Output)
		}
		return
	}
	t := s.open[name]
	if t == nil {
		t = &test{}
		s.open[name] = t
	}
	switch e.Action {
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			t.text = append(t.text, e.Output)
		}
	case "skip", "pass", "fail":
		if e.Action == "skip" {
			t.skipped = true
			t.text = append(t.text, "skipped, though root: "+e.Test+"\n")
		}
		t.took = max(t.took, e.Elapsed)
		if !sub {
			delete(s.open, name)
			r.tell(s, name, e.Action == "pass" && !t.skipped, t.took, t.text)
		}
	}
}

func (r *report) tell(s *running, name string, ok bool, seconds float64, text []string) {
	if ok {
		s.passed++
		fmt.Fprintf(r.out, "ok   %6.1fs  %s %s\n", seconds, s.name, name)
		return
	}
	s.failed++
	fmt.Fprintf(r.out, "FAIL %6.1fs  %s %s\n%s", seconds, s.name, name, strings.Join(text, ""))
}

// end is for the package that has ended: "pkg/mptcp 0".
func (r *report) end(rest string) error {
	_, code, _ := strings.Cut(rest, " ")
	return r.close("exit status "+code, code == "0")
}

// abandon is for the package whose machine is gone.
func (r *report) abandon() error {
	if r.running == nil {
		return nil
	}
	return r.close("the machine is gone", false)
}

func (r *report) close(how string, good bool) error {
	s := r.running
	r.running = nil
	s.in.Close()
	err := <-s.done
	_ = s.cmd.Wait()
	// Tests that began and did not end: a panic, or the time was over.
	for name, t := range s.open {
		r.tell(s, name, false, time.Since(s.started).Seconds(), append(t.text, "not finished: "+how+"\n"))
	}
	if !good && s.failed == 0 {
		r.tell(s, "", false, time.Since(s.started).Seconds(), append(s.other, how+"\n"))
	}
	s.took = time.Since(s.started)
	return err
}

// summary prints what came of everything, and says whether all is well.
func (r *report) summary(release, accel string, took time.Duration) bool {
	passed, failed := 0, 0
	fmt.Fprintf(r.out, "\nkernel %s in qemu (%s)\n", release, accel)
	for _, s := range r.suites {
		passed, failed = passed+s.passed, failed+s.failed
		fmt.Fprintf(r.out, "  %-18s %3d passed %3d failed  %v\n", s.name, s.passed, s.failed, s.took.Round(time.Second))
	}
	fmt.Fprintf(r.out, "  %-18s %3d passed %3d failed  %v\n", "in all", passed, failed, took.Round(time.Second))
	return r.finished && failed == 0 && passed > 0
}
