package kernel

import (
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// scripted is a socket whose other end answers each request with the messages
// that answer makes.
func scripted(t *testing.T, answer func(n int, seq uint32) [][]byte) *socket {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, receiveSize)
		for n := 1; ; n++ {
			size, err := unix.Read(pair[1], b)
			if err != nil || size == 0 {
				return
			}
			h, _, _, _ := nextMessage(b[:size])
			for _, m := range answer(n, h.seq) {
				if _, err := unix.Write(pair[1], m); err != nil {
					return
				}
			}
		}
	}()
	s := &socket{fd: pair[0], in: make([]byte, receiveSize), timeout: 50 * time.Millisecond}
	t.Cleanup(func() {
		s.close()
		<-done
		unix.Close(pair[1])
	})
	return s
}

func packet(typ, flags uint16, seq uint32, payload []byte) []byte {
	var m messages
	m.begin(typ, flags, seq)
	m.b = append(m.b, payload...)
	m.end()
	return m.b
}

func (s *socket) ask() {
	s.reset()
	s.begin(unix.RTM_GETLINK, unix.NLM_F_DUMP, s.nextSeq())
	s.end()
}

func doneMessage(seq uint32, flags uint16) []byte {
	return packet(unix.NLMSG_DONE, flags, seq, make([]byte, 4))
}

func TestDumpIsRepeatedWhenInterrupted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		interrupted, tries int
		want               error
	}{{0, 1, nil}, {2, 3, nil}, {4, 5, nil}, {99, 5, errInterrupted}} {
		tries := 0
		s := scripted(t, func(n int, seq uint32) [][]byte {
			tries = n
			flags := uint16(0)
			if n <= c.interrupted {
				flags = unix.NLM_F_DUMP_INTR
			}
			return [][]byte{packet(unix.RTM_NEWLINK, flags, seq, make([]byte, 4)), packet(unix.RTM_NEWLINK, 0, seq+7, nil), doneMessage(seq, 0)}
		})
		count := 0
		s.timeout = time.Minute // the answers come from a goroutine
		s.ask()
		err := s.dump(func() { count = 0 }, func(header, []byte) { count++ })
		if !errors.Is(err, c.want) || tries != c.tries || count != 1 {
			t.Errorf("%d interruptions: %v after %d tries with %d messages", c.interrupted, err, tries, count)
		}
		if c.want != nil && MeaningOf(err) != Transient {
			t.Errorf("%v is not transient", err)
		}
	}
}

func TestSilenceEndsAndIsForgotten(t *testing.T) {
	t.Parallel()
	var late []byte
	s := scripted(t, func(n int, seq uint32) [][]byte {
		if n == 1 { // the answer comes too late
			late = doneMessage(seq, 0)
			return nil
		}
		return [][]byte{late, doneMessage(seq, 0)}
	})
	s.ask()
	if err := s.dump(func() {}, nil); !errors.Is(err, unix.ETIMEDOUT) || !s.stale {
		t.Fatalf("no answer: %v", err)
	}
	s.timeout = time.Minute
	s.ask()
	if err := s.dump(func() {}, nil); err != nil || s.stale {
		t.Errorf("after a late answer: %v", err)
	}
}

// TestLostAnswerFailsTheRest: what was refused keeps its refusal, what was not
// answered counts as not done.
func TestLostAnswerFailsTheRest(t *testing.T) {
	t.Parallel()
	refusal := make([]byte, 4+unix.NLMSG_HDRLEN)
	code := -int32(unix.ENODEV)
	putU32(refusal, uint32(code))
	putU32(refusal[4:], unix.NLMSG_HDRLEN)
	k := &Kernel{rt: scripted(t, func(_ int, seq uint32) [][]byte {
		return [][]byte{packet(unix.NLMSG_ERROR, 0, seq, refusal), packet(unix.NLMSG_ERROR, 0, seq+1, refusal)}
	})}
	k.names.Store(&netstate.Names{2: "eth0"})
	r := path4(100002, 2, "10.1.1.1")[1]
	errs := k.Apply(slices.Concat(routeChanges(netstate.RouteAdd, r), routeChanges(netstate.RouteDelete, r), routeChanges(netstate.RouteAdd, r)))
	if !errors.Is(errs[0], unix.ENODEV) || !errors.Is(errs[2], unix.ETIMEDOUT) {
		t.Errorf("%v", errs)
	}
	// A delete whose object is gone would be done, had its answer been the last;
	// unanswered ones are repeated, which does no harm.
	if errs[1] != nil && !errors.Is(errs[1], unix.ETIMEDOUT) {
		t.Errorf("delete: %v", errs[1])
	}
}
