package lab

import (
	"fmt"
	"testing"
	"time"
)

// sourceRouting is what a daemon would do, by hand.
func sourceRouting(n *Net) {
	n.Client.IP(
		"route add default via "+n.A.Gateway+" dev "+n.A.Dev+" table 101 onlink",
		"route add default via "+n.B.Gateway+" dev "+n.B.Dev+" table 102 onlink",
		"rule add from "+n.A.Addr+" lookup 101", "rule add from "+n.B.Addr+" lookup 102",
		"mptcp limits set subflows 2 add_addr_accepted 4",
		"mptcp endpoint add "+n.A.Addr+" dev "+n.A.Dev+" subflow",
		"mptcp endpoint add "+n.B.Addr+" dev "+n.B.Dev+" subflow",
	)
}

func TestUploadOverTwoPaths(t *testing.T) {
	n := TwoSubnets(t, Rate("20mbit"))
	sourceRouting(n)
	n.Client.WantRoute(n.ServerAddr, "from "+n.B.Addr, "dev eth1 via 10.1.2.1 table 102")
	n.Client.WantRules("32764: from 10.1.2.2 lookup 102", "32765: from 10.1.1.2 lookup 101")
	n.Client.WantEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1")

	s := n.Server.Listen("10.9.0.2:5001")
	c := n.Client.Dial("10.9.0.2:5001")
	c.WantSubflows("10.1.1.2", "10.1.2.2")
	if i := c.Info(); !i.MPTCP || i.Extra != 1 || i.Token == 0 {
		t.Errorf("info %+v, wanted MPTCP with one extra subflow", i)
	}
	if s := s.Conns()[0].Subflows(); len(s) != 2 {
		t.Errorf("the server sees subflows %v, wanted two", s)
	}
	tx, _ := n.Client.LinkBytes("eth1")
	r := c.Upload(4 * time.Second)
	t.Log(r)
	if r.Err != nil || r.Mbps < 25 || r.Mbps > 45 {
		t.Errorf("%v, %v; wanted about 37 Mbit/s over two paths of 20", r, r.Err)
	}
	if now, _ := n.Client.LinkBytes("eth1"); now-tx < 3e6 {
		t.Errorf("eth1 sent %d bytes, wanted half of the transfer", now-tx)
	}
	c.WantEcho(20 * time.Second)

	up := c.StartUpload()
	Eventually(t, 20*time.Second, "transfer under way", func() error {
		if up.Bytes() < 4e6 {
			return fmt.Errorf("%d bytes", up.Bytes())
		}
		return nil
	})
	n.A.Cut()
	r = up.Stop(3 * time.Second)
	t.Log(r)
	if r.Err != nil || r.Stall > 2*time.Second {
		t.Errorf("stall of %v, error %v, after the loss of one of two paths", r.Stall, r.Err)
	}
	n.A.Restore()
	c.WantEcho(20 * time.Second)
}

func TestOnePath(t *testing.T) {
	n := TwoSubnets(t, Rate("20mbit"), IPv6())
	n.Server.Listen("10.9.0.2:5001")
	n.Server.Listen("[2001:db8:9::2]:5001")
	n.Server.Listen("10.9.0.2:5002", TCP())
	c := n.Client.Dial("10.9.0.2:5001", From("10.1.1.2"))
	r := c.Upload(3 * time.Second)
	t.Log(r)
	if r.Mbps < 12 || r.Mbps > 21 {
		t.Errorf("%v; wanted about 18 Mbit/s over one path of 20", r)
	}
	if err := c.CheckSubflows("10.1.1.2"); err != nil {
		t.Error(err)
	}
	r = n.Client.Dial("[2001:db8:9::2]:5001", Dev("eth1")).Download(4e6)
	t.Log(r)
	if r.Err != nil || r.Bytes != 4e6 {
		t.Errorf("download %v %v", r, r.Err)
	}
	c = n.Client.Dial("10.9.0.2:5002")
	c.WantEcho(5 * time.Second)
	if i := c.Info(); i.MPTCP || !i.Fallback {
		t.Errorf("info %+v, wanted a fallback", i)
	}
	c = n.Client.Dial("10.9.0.2:5001", TCP())
	c.WantEcho(5 * time.Second)
	if i := c.Info(); i.MPTCP || i.Fallback {
		t.Errorf("info %+v, wanted plain TCP", i)
	}
	n.A.Blackhole()
	if err := c.Echo(time.Second); err == nil {
		t.Error("an echo passes the black hole")
	}
	n.A.Unblackhole()
	c.WantEcho(20 * time.Second)
	if _, err := n.Client.TryDial("10.9.0.2:5003"); err == nil {
		t.Error("connected to a closed port")
	}
}

func TestRefusedJoins(t *testing.T) {
	t.Parallel()
	n := OneSubnet(t, RefuseJoins(), ArpIgnore())
	sourceRouting(n)
	n.Server.Listen("10.9.0.2:5001")
	c := n.Client.Dial("10.9.0.2:5001")
	c.WantEcho(5 * time.Second)
	Never(t, 500*time.Millisecond, "one subflow", func() error {
		if len(c.SubflowAddrs()) > 1 {
			return fmt.Errorf("subflows %v", c.SubflowAddrs())
		}
		return nil
	})
	if err := c.CheckSubflows("192.168.0.37"); err != nil {
		t.Error(err)
	}
}
