package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
)

func TestMeaningOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Meaning
	}{
		{unix.EPERM, Permission},
		{unix.EBUSY, Transient},
		{unix.ENODEV, Gone},
		{unix.EEXIST, InTheWay},
		{unix.EINVAL, Other},
		{fmt.Errorf("x: %w", reply{errno: unix.ENOBUFS}), Transient},
		{errInterrupted, Transient},
		{fmt.Errorf("x: %w", mptcp.ErrAbsent), Gone},
		{fmt.Errorf("%w: %w", mptcp.ErrExist, unix.EINVAL), InTheWay},
		{fmt.Errorf("%w: %w", mptcp.ErrBusy, unix.EINVAL), Transient},
		{errors.New("x"), Other},
	} {
		if got := MeaningOf(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
	err := &Error{Change: "add rule x", Cause: reply{errno: unix.EPERM}}
	if want := "add rule x: operation not permitted (EPERM): needs CAP_NET_ADMIN"; err.Error() != want {
		t.Errorf("want:  %s\nfound: %s", want, err)
	}
}

// dropNetAdmin takes the capability from the calling thread for good.
func dropNetAdmin() error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return err
	}
	d[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	d[0].Permitted &^= 1 << unix.CAP_NET_ADMIN
	return unix.Capset(&h, &d[0])
}

// TestWithoutCapability reads everything, and names what is missing to write.
func TestWithoutCapability(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	h.Do(func() {
		if err := dropNetAdmin(); err != nil {
			t.Fatal(err)
		}
		k, err := Open(testOptions)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		s := refresh(t, k, full())
		eth0 := linkNamed(t, s, "eth0").Index
		changes := onePath(eth0)
		changes = append(changes, netstate.Change{Op: netstate.LimitsSet, Limits: netstate.Limits{Subflows: 3}},
			endpointChange(netstate.EndpointAdd, netstate.Endpoint{Addr: netip.MustParseAddr("10.1.1.2"), Link: eth0}))
		for i, err := range k.Apply(changes) {
			if MeaningOf(err) != Permission || !errors.Is(err, unix.EPERM) {
				t.Errorf("%s: %v", changes[i], err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := k.Watcher().Watch(ctx, cancel, func(netstate.Hints) {}); !errors.Is(err, context.Canceled) {
			t.Errorf("watch: %v", err)
		}
		if err := k.Watcher().WatchConnections(t.Context(), func() {}); !errors.Is(err, mptcp.ErrPermission) {
			t.Errorf("watch connections: %v", err)
		}
	})
}
