package inspect

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestServices has this process listen in a namespace in all ways; what listens
// for the host alone is left out.
func TestServices(t *testing.T) {
	t.Parallel()
	h := lab.New(t).Host("host")
	var lines []string
	h.Do(func() {
		for i, l := range []struct {
			network, addr string
			mptcp         bool
		}{{"tcp4", "0.0.0.0", true}, {"tcp4", "0.0.0.0", false}, {"tcp4", "127.0.0.1", true}, {"tcp6", "[::]", true}, {"tcp6", "[::1]", false}} {
			var lc net.ListenConfig
			lc.SetMultipathTCP(l.mptcp)
			s, err := lc.Listen(context.Background(), l.network, fmt.Sprintf("%s:%d", l.addr, 5001+i))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
		}
		found, unseen, err := Services()
		if err != nil || len(unseen) > 0 {
			t.Errorf("%v, not seen: %v", err, unseen)
		}
		for _, s := range found {
			if s.PID != os.Getpid() || s.Program == "" {
				t.Errorf("%+v: not this process", s)
			}
			lines = append(lines, fmt.Sprintf("%s %d %t", s.Address, s.Port, s.MPTCP))
		}
	})
	if want := []string{"0.0.0.0 5001 true", "0.0.0.0 5002 false", ":: 5004 true"}; !slices.Equal(lines, want) {
		t.Errorf("want %q\nfound %q", want, lines)
	}
}
