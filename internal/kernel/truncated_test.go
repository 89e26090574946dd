package kernel

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCutOffAnswer: what did not fit into the buffer is an error, not a short
// list, and the next request is none the worse for it.
func TestCutOffAnswer(t *testing.T) {
	t.Parallel()
	const size = 512
	for name, first := range map[string]func(seq uint32) [][]byte{
		"the buffer is full":         func(seq uint32) [][]byte { return [][]byte{packet(unix.RTM_NEWLINK, 0, seq, make([]byte, 2*size))} },
		"a message longer than told": func(seq uint32) [][]byte { return [][]byte{packet(unix.RTM_NEWLINK, 0, seq, make([]byte, 64))[:40]} },
		"a header cut off":           func(seq uint32) [][]byte { return [][]byte{packet(unix.RTM_NEWLINK, 0, seq, nil)[:12]} },
		"an error without a number":  func(seq uint32) [][]byte { return [][]byte{packet(unix.NLMSG_ERROR, 0, seq, nil)} },
		"an end without a number":    func(seq uint32) [][]byte { return [][]byte{packet(unix.NLMSG_DONE, 0, seq, nil)} },
	} {
		s := scripted(t, func(n int, seq uint32) [][]byte {
			if n == 1 {
				return first(seq)
			}
			return [][]byte{packet(unix.RTM_NEWLINK, 0, seq, make([]byte, 4)), doneMessage(seq, 0)}
		})
		s.in = make([]byte, size)
		count := 0
		s.ask()
		err := s.dump(func() { count = 0 }, func(header, []byte) { count++ })
		if name == "the buffer is full" && !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && name != "an end without a number" || count != 0 {
			t.Errorf("%s: %v, %d messages", name, err, count)
		}
		s.timeout = time.Minute // the answers come from a goroutine
		s.ask()
		if err := s.dump(func() { count = 0 }, func(header, []byte) { count++ }); err != nil || count != 1 {
			t.Errorf("after %s: %v, %d messages", name, err, count)
		}
	}
}

// TestCutOffEvent: events after it may be lost, so that everything is read anew.
func TestCutOffEvent(t *testing.T) {
	t.Parallel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	r, err := newReceiver(pair[0])
	unix.Close(pair[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.file.Close()
	r.in = make([]byte, 64)
	if _, err := unix.Write(pair[1], make([]byte, 65)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.receive(); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("found %v", err)
	}
}
