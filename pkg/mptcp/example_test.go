package mptcp_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
)

// List the endpoints as ip(8) does.
func ExampleClient_Endpoints() {
	c, err := mptcp.Dial()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	list, err := c.Endpoints()
	if err != nil {
		log.Fatal(err)
	}
	name := func(ifindex int) string {
		i, err := net.InterfaceByIndex(ifindex)
		if err != nil {
			return ""
		}
		return i.Name
	}
	for _, e := range list {
		fmt.Println(e.Format(name))
	}
}

// Add an endpoint; that somebody has added it before is no mistake.
func ExampleClient_AddEndpoint() {
	c, err := mptcp.Dial()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	err = c.AddEndpoint(mptcp.Endpoint{
		Addr:    netip.MustParseAddr("10.1.1.2"),
		Flags:   mptcp.FlagSubflow,
		IfIndex: 2,
	})
	switch {
	case errors.Is(err, mptcp.ErrExist):
	case errors.Is(err, mptcp.ErrFull):
		log.Fatal("no slot is left: ", err)
	case err != nil:
		log.Fatal(err)
	}
}

// Delete the endpoint of an address: read first, for the id.
func ExampleClient_DeleteEndpoint() {
	c, err := mptcp.Dial()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	list, err := c.Endpoints()
	if err != nil {
		log.Fatal(err)
	}
	gone := netip.MustParseAddr("10.1.1.2")
	for _, e := range list {
		if e.Addr != gone {
			continue
		}
		if err := c.DeleteEndpoint(e); err != nil && !errors.Is(err, mptcp.ErrAbsent) {
			log.Fatal(err)
		}
	}
}

// Make a subflow a backup and keep its other flag that can change.
func ExampleClient_SetFlags() {
	c, err := mptcp.Dial()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	e, err := c.Endpoint(1)
	if err != nil {
		log.Fatal(err)
	}
	if err := c.SetFlags(e, e.Flags|mptcp.FlagBackup); err != nil {
		log.Fatal(err)
	}
}

// Raise the limits as far as the kernel goes.
func ExampleClient_SetLimits() {
	c, err := mptcp.Dial()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	f, err := mptcp.Probe(c)
	if err != nil {
		log.Fatal(err)
	}
	if err := c.SetLimits(mptcp.Limits{Subflows: f.MaxLimit, AddAddrAccepted: f.MaxLimit}); err != nil {
		log.Fatal(err)
	}
}

// What can be known without privilege is returned beside the error.
func ExampleProbe() {
	c, err := mptcp.Dial()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	f, err := mptcp.Probe(c)
	if err != nil && !errors.Is(err, mptcp.ErrPermission) {
		log.Fatal(err)
	}
	fmt.Println("endpoints:", f.MaxEndpoints, "fullmesh:", f.Fullmesh, "laminar:", f.Laminar)
}

// Follow the events, and read the state anew where some were lost.
func ExampleClient_SubscribeEvents() {
	c, err := mptcp.Dial()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	events, err := c.SubscribeEvents()
	if err != nil {
		log.Fatal(err)
	}
	defer events.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		e, err := events.Receive(ctx)
		switch {
		case errors.Is(err, mptcp.ErrOverflow):
			connections, err := c.Connections(mptcp.ConnectionOptions{})
			fmt.Println(len(connections), "connections", err)
		case errors.Is(err, context.DeadlineExceeded):
			return
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println(e)
		}
	}
}

// Show each connection and what its subflows do.
func ExampleClient_Connections() {
	c, err := mptcp.Dial()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	list, err := c.Connections(mptcp.ConnectionOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, x := range list {
		fmt.Printf("%08x %v %v -> %v fallback=%t\n", x.Token, x.State, x.Local, x.Remote, x.Fallback)
		for _, f := range x.Subflows {
			fmt.Printf("  %v -> %v rtt %v, %d bytes/s\n", f.Local, f.Remote, f.RTT, f.DeliveryRate)
		}
	}
}

// Cut the subflows of one address that this host opened, and no other.
func ExampleClient_DestroySubflow() {
	c, err := mptcp.Dial()
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	list, err := c.SubflowsFrom(netip.MustParseAddr("10.1.1.2"))
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range list {
		if !f.JoinLocal {
			continue
		}
		if err := c.DestroySubflow(f); err != nil && !errors.Is(err, mptcp.ErrAbsent) {
			log.Fatal(err)
		}
	}
}

// Count what happened in ten seconds.
func ExampleReadCounters() {
	before, err := mptcp.ReadCounters()
	if err != nil {
		log.Fatal(err)
	}
	time.Sleep(10 * time.Second)
	after, err := mptcp.ReadCounters()
	if err != nil {
		log.Fatal(err)
	}
	for name, n := range after.Sub(before) {
		if n > 0 {
			fmt.Println(name, n)
		}
	}
}

func ExampleParseCounters() {
	c, err := mptcp.ParseCounters([]byte("MPTcpExt: MPJoinSynTx MPJoinRejected\nMPTcpExt: 12 1\n"))
	fmt.Println(c["MPJoinSynTx"], c["MPJoinRejected"], err)
	// Output: 12 1 <nil>
}

func ExampleEndpoint_Format() {
	e := mptcp.Endpoint{
		ID:      1,
		Addr:    netip.MustParseAddr("10.1.1.2"),
		Flags:   mptcp.FlagSubflow | mptcp.FlagBackup,
		IfIndex: 2,
	}
	fmt.Println(e.Format(func(int) string { return "eth0" }))
	// Output: 10.1.1.2 id 1 subflow backup dev eth0
}

// A client of another namespace: the thread that enters it is not used for anything else.
func ExampleDial_namespace() {
	type result struct {
		client *mptcp.Client
		err    error
	}
	dialed := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/blue", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			dialed <- result{err: err}
			return
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			dialed <- result{err: err}
			return
		}
		c, err := mptcp.Dial()
		dialed <- result{c, err}
	}()
	r := <-dialed
	if r.err != nil {
		log.Fatal(r.err)
	}
	defer r.client.Close()
	fmt.Println(r.client.Limits())
}
