package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/test/vm/task"
)

// wayIn are the modules that lead to the host's files and to the port for results, unless the kernel has them built in.
var wayIn = []string{"virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console"}

// kernel is one that can be booted.
type kernel struct {
	release string // as uname -r says it
	image   string // the file to boot
	modules string // the directory of its modules
}

// findKernel takes the kernel of a directory, or Debian's.
func findKernel(ctx context.Context, dir, cache string) (*kernel, error) {
	if dir == "" {
		var err error
		if dir, err = debianKernel(ctx, cache); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	images, _ := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	slices.SortFunc(images, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	for _, image := range slices.Backward(images) {
		release := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
		k := &kernel{release: release, image: image, modules: filepath.Join(dir, "lib", "modules", release)}
		if _, err := os.Stat(k.modules); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(k.modules, "modules.dep")); err != nil {
			if _, err := output(ctx, "/", "depmod", "-b", dir, release); err != nil {
				return nil, err
			}
		}
		return k, nil
	}
	return nil, fmt.Errorf("find a kernel in %s: no boot/vmlinuz-RELEASE with lib/modules/RELEASE", dir)
}

// debianKernel is the directory of the unpacked package that linux-image-amd64 stands for, downloaded at first use. An
// older one is removed.
func debianKernel(ctx context.Context, cache string) (string, error) {
	name, version, err := newest(ctx)
	if err != nil {
		return "", err
	}
	all := filepath.Join(cache, "kernel")
	dir := filepath.Join(all, name+"_"+version)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fmt.Printf("downloading %s %s, about 70 MB, 400 MB unpacked in %s\n", name, version, all)
	if err := os.RemoveAll(all); err != nil {
		return "", err
	}
	part := filepath.Join(all, "part")
	if err := os.MkdirAll(part, 0o755); err != nil {
		return "", err
	}
	if _, err := output(ctx, all, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name+"="+version); err != nil {
		return "", err
	}
	debs, _ := filepath.Glob(filepath.Join(all, "*.deb"))
	if len(debs) != 1 {
		return "", fmt.Errorf("download %s: %d packages came", name, len(debs))
	}
	if _, err := output(ctx, all, "dpkg-deb", "-x", debs[0], part); err != nil {
		return "", err
	}
	if err := os.Remove(debs[0]); err != nil {
		return "", err
	}
	return dir, os.Rename(part, dir)
}

// newest asks apt for the package with the kernel itself, and its version.
func newest(ctx context.Context) (name, version string, err error) {
	depends, err := output(ctx, "/", "apt-cache", "depends", "linux-image-amd64")
	if err != nil {
		return "", "", fmt.Errorf("%w\nwithout Debian's packages: -kernel DIRECTORY; with an empty index: apt-get update", err)
	}
	for line := range strings.Lines(depends) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && strings.HasPrefix(rest, "linux-image-") {
			name = rest
			break
		}
	}
	if name == "" {
		return "", "", errors.New("find the package that linux-image-amd64 depends on: apt-cache names none")
	}
	show, err := output(ctx, "/", "apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(show) {
		if rest, ok := strings.CutPrefix(line, "Version: "); ok {
			return name, strings.TrimSpace(rest), nil
		}
	}
	return "", "", fmt.Errorf("find the version of %s: apt-cache names none", name)
}

// writeImage writes the first file system of the guest: its first process, the modules that it loads, and the plan.
func writeImage(path, guest string, k *kernel, plan *task.Plan) error {
	var a archive
	for _, d := range []string{"proc", "sys", "dev", "host", "layer", "root", "modules"} {
		a.directory(d)
	}
	program, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	a.file("init", program)
	order, err := k.loadOrder(wayIn)
	if err != nil {
		return err
	}
	for i, m := range order {
		b, err := os.ReadFile(filepath.Join(k.modules, m))
		if err != nil {
			return err
		}
		a.file(fmt.Sprintf("modules/%03d-%s", i, filepath.Base(m)), b)
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	a.file("plan", text)
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	if _, err := z.Write(a.end()); err != nil {
		return err
	}
	return errors.Join(z.Close(), f.Close())
}

// loadOrder lists the files of modules with all that they need, what is needed first.
func (k *kernel) loadOrder(names []string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(k.modules, "modules.dep"))
	if err != nil {
		return nil, err
	}
	needs := map[string][]string{} // by file
	files := map[string]string{}   // by name
	for line := range strings.Lines(string(b)) {
		file, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(filepath.Base(file), ".ko")
		files[strings.ReplaceAll(name, "-", "_")] = file
		needs[file] = strings.Fields(rest)
	}
	var order []string
	for _, n := range names {
		file, ok := files[n]
		if !ok {
			continue // built in, or the machine will say what it lacks
		}
		// A line has everything that a module needs, the nearest first.
		for _, f := range append(slices.Collect(backward(needs[file])), file) {
			if !slices.Contains(order, f) {
				order = append(order, f)
			}
		}
	}
	return order, nil
}

func backward(s []string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, x := range slices.Backward(s) {
			if !yield(x) {
				return
			}
		}
	}
}

// archive is a cpio archive as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	b     bytes.Buffer
	inode int
}

func (a *archive) directory(name string)         { a.entry(name, 0o040755, nil) }
func (a *archive) file(name string, data []byte) { a.entry(name, 0o100755, data) }

func (a *archive) entry(name string, mode int, data []byte) {
	a.inode++
	links := 1
	// Owner, time and devices are zero; so is the check sum of this format.
	for i, v := range []int{a.inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0} {
		if i == 0 {
			a.b.WriteString("070701")
		}
		fmt.Fprintf(&a.b, "%08x", v)
	}
	a.b.WriteString(name + "\x00")
	a.pad()
	a.b.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.b.Len()%4 != 0 {
		a.b.WriteByte(0)
	}
}

// end closes the archive and returns it.
func (a *archive) end() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.b.Bytes()
}
