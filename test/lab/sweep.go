package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// lockDir holds one locked file for each lab that lives; the kernel frees the lock of a process that dies.
const lockDir = "/run/sfl"

var sweepOnce sync.Once

// claim marks the lab's namespaces as in use until the file is closed.
func claim(id string) (*os.File, error) {
	if err := os.MkdirAll(lockDir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(lockDir, id), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// release is for a lab whose namespaces are gone.
func release(f *os.File) {
	_ = os.Remove(f.Name())
	f.Close()
}

// tempDir is short: Unix sockets below it must fit 107 bytes.
func tempDir(id string) string { return filepath.Join(os.TempDir(), "sfl-"+id) }

// sweep deletes the namespaces of labs whose test process was interrupted. Their processes died with it, but for those that
// had made themselves daemons, such as wireguard-go.
func sweep() {
	files, _ := filepath.Glob(lockDir + "/*")
	for _, file := range files {
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close()
			continue
		}
		left, _ := filepath.Glob("/run/netns/sfl-" + filepath.Base(file) + "-*")
		for _, ns := range left {
			h := &Host{NS: strings.TrimPrefix(ns, "/run/netns/")}
			h.killRest()
			_ = exec.Command("ip", "netns", "del", h.NS).Run()
		}
		_ = os.RemoveAll(tempDir(filepath.Base(file)))
		release(f)
	}
}
