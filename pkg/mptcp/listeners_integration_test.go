package mptcp

import (
	"context"
	"net"
	"slices"
	"testing"
)

func TestListeners(t *testing.T) {
	newNamespace(t)
	for _, l := range []struct {
		addr  string
		mptcp bool
	}{{"127.0.0.1:5001", true}, {"127.0.0.1:5002", false}, {"[::]:5003", true}, {"[::]:5004", false}} {
		var lc net.ListenConfig
		lc.SetMultipathTCP(l.mptcp)
		s, err := lc.Listen(context.Background(), "tcp", l.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	found, err := dial(t).Listeners()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range found {
		kind := "tcp "
		if l.MPTCP {
			kind = "mptcp "
		}
		lines = append(lines, kind+l.Local.String())
		if l.Inode == 0 || l.UID != 0 || l.IfIndex != 0 {
			t.Errorf("%+v: want an inode, user 0 and no interface", l)
		}
	}
	slices.Sort(lines)
	want := []string{"mptcp 127.0.0.1:5001", "mptcp [::]:5003", "tcp 127.0.0.1:5002", "tcp [::]:5004"}
	if !slices.Equal(lines, want) {
		t.Errorf("want %q\nfound %q", want, lines)
	}
}
