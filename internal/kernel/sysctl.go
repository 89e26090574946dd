package kernel

import (
	"bytes"
	"os"
)

// sysctls are files below /proc/sys/net/mptcp, kept open: an open one stays
// with the namespace of the thread that opened it, whoever reads.
type sysctls struct {
	enabled     *os.File
	pmType      *os.File // 5.19 to now: 0 in the kernel, 1 in user space
	pathManager *os.File // 6.15: the name of the path manager
}

const sysctlDir = "/proc/sys/net/mptcp/"

func (s *sysctls) open() {
	// A file that an older kernel lacks, or a container hides, stays nil.
	s.enabled, _ = os.Open(sysctlDir + "enabled")
	s.pmType, _ = os.Open(sysctlDir + "pm_type")
	s.pathManager, _ = os.Open(sysctlDir + "path_manager")
}

func (s *sysctls) close() {
	for _, f := range []*os.File{s.enabled, s.pmType, s.pathManager} {
		if f != nil {
			f.Close()
		}
	}
}

// read returns net.mptcp.enabled, true where it cannot be read, and whether
// another path manager than the kernel's is chosen.
func (s *sysctls) read() (enabled, userspace bool) {
	var buf [64]byte
	enabled = string(value(s.enabled, buf[:])) != "0"
	if name := value(s.pathManager, buf[:]); len(name) > 0 {
		return enabled, string(name) != "kernel"
	}
	return enabled, string(value(s.pmType, buf[:])) == "1"
}

func value(f *os.File, buf []byte) []byte {
	if f == nil {
		return nil
	}
	n, _ := f.ReadAt(buf, 0)
	return bytes.TrimSpace(buf[:n])
}
