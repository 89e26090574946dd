package unit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ThisHost is the one that this program runs on, with itself as subflowctl.
func ThisHost() (Host, error) {
	program, err := os.Executable()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	if err != nil {
		return Host{}, fmt.Errorf("find this program's own file: %w", err)
	}
	return Host{Program: program, Privileged: privileged, Label: label, Deaf: deaf()}, nil
}

// deaf tells whether this is a container whose systemd keeps services in
// control groups of version 1: their release agent runs outside.
func deaf() bool {
	for _, dir := range []string{"", "systemd", "unified"} {
		var st unix.Statfs_t
		if unix.Statfs(filepath.Join("/sys/fs/cgroup", dir), &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return false
		}
	}
	_, err := os.Stat("/run/systemd/container")
	return err == nil
}

func privileged(file string) bool {
	var st unix.Stat_t
	if unix.Stat(file, &st) != nil {
		return false
	}
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		return true
	}
	n, err := unix.Getxattr(file, "security.capability", nil)
	return err == nil && n > 0
}

// label is the type of a file's context: bin_t of system_u:object_r:bin_t:s0.
func label(file string) string {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return ""
	}
	b := make([]byte, 256)
	n, err := unix.Getxattr(file, "security.selinux", b)
	if err != nil {
		return ""
	}
	parts := strings.Split(strings.TrimRight(string(b[:n]), "\x00"), ":")
	if len(parts) < 3 {
		return ""
	}
	return parts[2]
}
