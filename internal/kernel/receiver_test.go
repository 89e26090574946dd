package kernel

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestReceiveAllocatesNothing: together with TestDecodeEvent, an event that is of
// no interest costs no memory.
func TestReceiveAllocatesNothing(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	r, err := newReceiver(pair[0])
	unix.Close(pair[0])
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("a message")
	allocated := testing.AllocsPerRun(100, func() {
		if _, err := unix.Write(pair[1], message); err != nil {
			t.Fatal(err)
		}
		if b, _, err := r.receive(); err != nil || string(b) != string(message) {
			t.Fatalf("%q, %v", b, err)
		}
	})
	if allocated != 0 {
		t.Errorf("a message costs %v allocations", allocated)
	}
	go r.file.Close()
	if _, _, err := r.receive(); err == nil {
		t.Error("a read that waits does not end when the socket is closed")
	}
}
