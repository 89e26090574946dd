// Package lab builds hosts out of network namespaces for integration and end-to-end tests, runs the programs under
// test in them, and judges the kernel with ip(8) and real MPTCP connections. It uses nothing of the project's own code.
//
//	func TestSecondSubflow(t *testing.T) {
//		n := lab.TwoSubnets(t, lab.Rate("20mbit")) // n.Client, n.Router, n.Server, n.A and n.B: the client's paths
//		before := n.Client.Snapshot()
//		d := n.Client.Daemon()
//		lab.Eventually(t, 20*time.Second, "source routing", func() error {
//			return n.Client.CheckRoute(n.ServerAddr, "from "+n.B.Addr, "dev eth1 via 10.1.2.1")
//		})
//		n.Client.WantEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1")
//		n.Server.Listen("10.9.0.2:5001")
//		c := n.Client.Dial("10.9.0.2:5001")
//		c.WantSubflows("10.1.1.2", "10.1.2.2")
//		up := c.StartUpload()
//		n.A.Cut()
//		r := up.Stop(3 * time.Second)
//		t.Logf("%.1f Mbit/s, longest stall %v", r.Mbps, r.Stall)
//		n.A.Restore()
//		d.Stop()
//		n.Client.Subflowd("--cleanup")
//		n.Client.WantSnapshot(before)
//	}
//
// Every Want ends the test with the wanted lines beside the found ones and the state of all hosts; every Check returns
// the same as an error, for Eventually and Never. When a test fails, the state of its hosts and the logs of its
// processes are printed. Hosts, links, processes and connections end with the test.
package lab
