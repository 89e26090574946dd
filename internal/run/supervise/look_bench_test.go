package supervise

import (
	"os"
	"testing"
)

func BenchmarkLook(b *testing.B) {
	for name, look := range map[string]lookFunc{"pidfd": lookByPidfd, "proc": lookByProc} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := look(os.Getpid()); err != nil {
					b.Skip(err)
				}
			}
		})
	}
}
