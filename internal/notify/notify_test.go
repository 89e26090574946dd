package notify

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	for _, x := range []struct {
		send func()
		want string
	}{
		{Ready, `^READY=1$`},
		{func() { Status("2 paths") }, `^STATUS=2 paths$`},
		{Reloading, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`},
		{Watchdog, `^WATCHDOG=1$`},
		{Stopping, `^STOPPING=1$`},
	} {
		x.send()
		b := make([]byte, 256)
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(b[:n]); !regexp.MustCompile(x.want).MatchString(got) {
			t.Errorf("want %s, got %q", x.want, got)
		}
	}
}

func TestWithoutServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	Ready()
	t.Setenv("WATCHDOG_USEC", "")
	if d := WatchdogPeriod(); d != 0 {
		t.Errorf("got %v", d)
	}
}

func TestWatchdogPeriod(t *testing.T) {
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	for usec, want := range map[string]time.Duration{"10000000": 5 * time.Second, "nonsense": 0, "-1": 0} {
		t.Setenv("WATCHDOG_USEC", usec)
		if d := WatchdogPeriod(); d != want {
			t.Errorf("%s: want %v, got %v", usec, want, d)
		}
	}
}
