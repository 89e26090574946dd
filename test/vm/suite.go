package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/subflowd/subflowd/test/vm/task"
)

// suite is a package whose tests run on the other kernel, but for those that are left out.
type suite struct {
	pkg string
	out []string
}

// readCore reads the file core: a line for each package, and below it, indented, each test that is left out, with the
// reason behind the name. # begins a comment.
func readCore(path string) ([]suite, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []suite
	for i, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		w := strings.Fields(line)
		switch {
		case len(w) == 0:
		case line[0] != ' ' && line[0] != '\t' && len(w) == 1:
			all = append(all, suite{pkg: w[0]})
		case line[0] == '\t' && len(w) > 1 && len(all) > 0:
			last := &all[len(all)-1]
			last.out = append(last.out, w[0])
		default:
			return nil, fmt.Errorf("%s:%d: want a package, or indented the name of a test and the reason why it is left out: %q", path, i+1, line)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no package", path)
	}
	return all, nil
}

// Ten tests wait where the processor is emulated; they run beside each other as in make test.
const parallel = "4"

// prepare builds the programs and the tests, and writes down what the guest is to do.
func prepare(ctx context.Context, s settings, k *kernel, suites []suite) (*task.Plan, error) {
	plan := &task.Plan{
		Release: k.release, Modules: k.modules,
		// Whoever opens /dev/net/tun or /dev/ppp needs the device node, which comes with the module.
		Load: []string{"tun", "ppp_generic"},
		Env:  []string{"SUBFLOW_BIN=" + s.cache},
		Keep: []string{s.root, s.cache, k.modules},
	}
	if _, err := output(ctx, s.root, "go", "build", "-o", s.cache+"/", "./cmd/subflowd", "./cmd/subflowctl", "./test/pm_nl_ctl"); err != nil {
		return nil, err
	}
	for _, u := range suites {
		if s.only != "" && u.pkg != s.only {
			continue
		}
		t, err := build(ctx, s, u)
		if err != nil {
			return nil, err
		}
		plan.Tasks = append(plan.Tasks, t)
	}
	if len(plan.Tasks) == 0 {
		return nil, fmt.Errorf("no package %s in test/vm/core", s.only)
	}
	return plan, nil
}

// build makes the binary of one package's tests.
func build(ctx context.Context, s settings, u suite) (task.Task, error) {
	bin := filepath.Join(s.cache, strings.ReplaceAll(u.pkg, "/", "-")+".test")
	if _, err := output(ctx, s.root, "go", "test", "-c", "-tags", "kinds", "-o", bin, "./"+u.pkg); err != nil {
		return task.Task{}, err
	}
	dir := filepath.Join(s.root, u.pkg)
	list, err := output(ctx, dir, bin, "-test.list", ".")
	if err != nil {
		return task.Task{}, err
	}
	have := strings.Fields(list)
	for _, name := range u.out {
		if !slices.Contains(have, name) {
			return task.Task{}, fmt.Errorf("test/vm/core leaves out %s of %s: there is no such test", name, u.pkg)
		}
	}
	t := task.Task{Name: u.pkg, Dir: dir, Seconds: int(s.timeout / time.Second)}
	t.Args = []string{bin, "-test.v=test2json", "-test.parallel=" + parallel, "-test.timeout=" + (s.timeout * 9 / 10).String()} // a test that hangs is to say where
	if s.run != "" {
		if _, err := regexp.Compile(s.run); err != nil {
			return task.Task{}, errors.Join(errors.New("read -run"), err)
		}
		t.Args = append(t.Args, "-test.run="+s.run)
	}
	if len(u.out) > 0 {
		t.Args = append(t.Args, "-test.skip=^("+strings.Join(u.out, "|")+")$")
	}
	return t, nil
}
