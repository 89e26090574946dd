package inspect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/test/lab"
)

const soon = 20 * time.Second

// trouble is something between client and server that shows in the counters of
// one of them. Counters never fall, so the healthy case is the one before: the
// same hosts after MPTCP connections that used both paths.
type trouble struct {
	code     string
	severity plan.Severity
	server   bool   // it shows on the server
	counter  string // what it takes; older kernels do not count everything
	inject   func(w *world)
	undo     func(w *world)
}

// network are the troubles in the order in which they come; the last one keeps
// the client from using MPTCP.
var network = []trouble{
	{
		code: "joins-failed", severity: plan.Info, counter: "MPJoinSynTxBindErr",
		inject: func(w *world) {
			w.Client.IP("mptcp endpoint add 10.250.0.1 dev eth0 subflow id 99")
			w.dial(5001)
		},
		undo: func(w *world) { w.Client.IP("mptcp endpoint delete id 99") },
	},
	{
		code: "joins-refused", severity: plan.Warning, server: true, counter: "MPJoinRejected",
		inject: func(w *world) {
			w.Server.IP("mptcp limits set subflows 0 add_addr_accepted 0")
			w.dial(5001)
		},
		undo: func(w *world) { w.Server.IP("mptcp limits set subflows 8 add_addr_accepted 8") },
	},
	{
		code: "joins-unanswered", severity: plan.Warning, counter: "MPJoinSynTx",
		inject: func(w *world) {
			w.middlebox("tcp option mptcp subtype 1 drop")
			for range 10 {
				w.dial(5001)
			}
		},
		undo: clear,
	},
	{
		// Options are lost behind the handshake.
		code: "middlebox-strips", severity: plan.Warning, server: true, counter: "MPCapableFallbackACK",
		inject: func(w *world) {
			w.middlebox("tcp flags & syn == 0 reset tcp option mptcp")
			for range 3 {
				w.dial(5001)
			}
		},
		undo: clear,
	},
	{
		// A byte of what the client sends is another one at the server.
		code: "middlebox-changes", severity: plan.Warning, server: true, counter: "DataCsumErr",
		inject: func(w *world) {
			for _, h := range []*lab.Host{w.Client, w.Server} {
				h.Sysctl("net.mptcp.checksum_enabled", "1")
			}
			c := w.dial(5001)
			w.middlebox("ip daddr 10.9.0.2 tcp dport 5001 meta length > 80 @th,480,8 set 0x55")
			_ = c.Echo(time.Second)
		},
		undo: clear,
	},
	{
		code: "blackhole", severity: plan.Warning, counter: "Blackhole",
		inject: func(w *world) {
			w.Client.Sysctl("net.mptcp.syn_retrans_before_tcp_fallback", "1")
			w.middlebox("tcp option mptcp subtype 0 drop")
			w.dial(5001)
		},
		undo: func(w *world) {
			clear(w)
			if w.dial(5001).Info().MPTCP {
				w.T.Error("MPTCP was offered while the detection had it off")
			}
			found, _ := w.on(w.Client)
			f, _ := pick(found, "blackhole")
			words := strings.Fields(f.Remedy)
			w.Client.Run(words[0], words[1:3]...)
			if !w.dial(5001).Info().MPTCP {
				w.T.Errorf("MPTCP was not offered after: %s", f.Remedy)
			}
		},
	},
}

// dial opens a connection on which something was said.
func (w *world) dial(port int) *lab.Conn {
	w.T.Helper()
	c := w.Client.Dial(fmt.Sprintf("10.9.0.2:%d", port))
	c.WantEcho(soon)
	return c
}

// middlebox has the router do something to the packets that it forwards.
func (w *world) middlebox(rule string) {
	w.T.Helper()
	w.Router.NFT("add table inet box", "add chain inet box x { type filter hook forward priority -300; }", "add rule inet box x "+rule)
}

func clear(w *world) { w.Router.NFT("delete table inet box") }

func (w *world) counted(s trouble) ([]string, bool) {
	w.T.Helper()
	h := w.Client
	if s.server {
		h = w.Server
	}
	found, _ := w.on(h)
	f, ok := pick(found, s.code)
	return append(codes(found), f.Evidence...), ok && f.Severity == s.severity
}

// counts tells whether the kernel has the counter that a trouble takes. One that has the last of them (6.17) has all: a
// name that no kernel has is found there.
func (w *world) counts(s trouble) bool {
	w.T.Helper()
	var counters mptcp.Counters
	w.Client.Do(func() {
		var err error
		if counters, err = mptcp.ReadCounters(); err != nil {
			w.T.Fatal(err)
		}
	})
	_, has := counters[s.counter]
	if _, all := counters["DssFallback"]; all && !has {
		w.T.Fatalf("%s takes %s, and the kernel does not count it: %v", s.code, s.counter, counters)
	}
	return has
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Server.Listen("10.9.0.2:5001")
	for range 4 {
		w.dial(5001).WantSubflows("10.1.1.2", "10.1.2.2")
	}
	for _, s := range network {
		if found, ok := w.counted(s); ok {
			t.Fatalf("%s is found where all is well:\n%s", s.code, strings.Join(found, "\n"))
		}
	}
	for _, s := range network {
		if !w.counts(s) {
			t.Logf("the kernel does not count %s, so %s is not found", s.counter, s.code)
			continue
		}
		t.Run(s.code, func(t *testing.T) {
			w.T = t
			s.inject(w)
			lab.Eventually(t, soon, s.code, func() error {
				if found, ok := w.counted(s); !ok {
					return fmt.Errorf("found:\n%s", strings.Join(found, "\n"))
				}
				return nil
			})
			found, _ := w.counted(s)
			t.Log(strings.Join(found, "\n"))
			s.undo(w)
		})
		if t.Failed() {
			break
		}
	}
	w.T = t
}
