package mptcp

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ConnectionOptions choose what [Client.Walk] and [Client.Connections] read. The zero value reads everything that
// matters.
type ConnectionOptions struct {
	// States of the MPTCP sockets that are wanted; zero is AllStates.
	States StateSet
	// NoSubflows leaves out the walk over the TCP sockets, the larger part of the cost.
	NoSubflows bool
}

// Visitor takes what [Client.Walk] reads, each thing once. What a function is given is used again for the next
// call: it copies what it keeps. None of them may use the client.
type Visitor struct {
	// Begin comes first. It comes again, and forgets what came since, when the kernel says that what it showed
	// changed meanwhile.
	Begin func()
	// Connection takes a connection, without its subflows.
	Connection func(*Connection)
	// Subflow takes a subflow of the n-th connection, counted from 0. It comes when all connections have come.
	Subflow func(n int, f *Subflow)
}

// Connections lists the MPTCP connections of the namespace with their subflows. Subflows are read after the
// connections, so a connection that began in between is missing whole, and one that ended can have none. The kernel
// shows subflows only to holders of CAP_NET_ADMIN; without it the list is returned with ErrPermission.
func (c *Client) Connections(opts ConnectionOptions) ([]Connection, error) {
	var list []Connection
	err := c.Walk(opts, Visitor{
		Begin: func() { list = make([]Connection, 0, len(list)) },
		Connection: func(m *Connection) {
			list = append(list, *m)
			if !opts.NoSubflows {
				list[len(list)-1].Subflows = make([]Subflow, 0, m.SubflowCount())
			}
		},
		Subflow: func(n int, f *Subflow) { list[n].Subflows = append(list[n].Subflows, *f) },
	})
	if err != nil && !errors.Is(err, ErrPermission) {
		return nil, err
	}
	return list, err
}

// Walk reads what [Client.Connections] lists, in the same order and with the same errors, and keeps none of it.
func (c *Client) Walk(opts ConnectionOptions, v Visitor) error {
	if opts.States == 0 {
		opts.States = AllStates
	}
	c.diag.Lock()
	defer c.diag.Unlock()
	var err error
	for range dumpTries {
		if err = c.walk(opts, v); !errors.Is(err, ErrInterrupted) {
			return err
		}
	}
	return err
}

func (c *Client) walk(opts ConnectionOptions, v Visitor) error {
	v.Begin()
	known := tokens{}
	if err := c.walkConnections(opts.States, known, v.Connection); err != nil {
		return fail(opList, "connections", err)
	}
	if opts.NoSubflows || len(known) == 0 {
		return nil
	}
	seen := false
	err := c.diag.run(subflowRequest(netip.Addr{}), eachSubflow(func(f *Subflow) {
		seen = true
		if n, ok := known[f.Token]; ok {
			v.Subflow(int(n), f)
		}
	}))
	if err != nil {
		return fail(opList, "subflows", err)
	}
	if !seen {
		return c.hidden()
	}
	return nil
}

// tokens count the connections by the kernel's name for them.
type tokens map[uint32]int32

// add says whether the token is new. The kernel's walk goes by position and shows a connection twice when others come
// while it rests.
func (t tokens) add(token uint32) bool {
	if _, twice := t[token]; twice {
		return false
	}
	t[token] = int32(len(t))
	return true
}

// walkConnections reads the MPTCP sockets of both families.
func (c *Client) walkConnections(states StateSet, known tokens, take func(*Connection)) error {
	var m Connection
	for _, family := range families {
		r := diagRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, diagHeader(family, states))
		r.AddData(nl.NewRtAttr(diagReqProtocol, nl.Uint32Attr(protocolMPTCP)))
		err := c.diag.run(r, func(b []byte) error {
			s, ok := parseDiag(b)
			if !ok {
				return errShort
			}
			if decodeConnection(&m, &s); known.add(m.Token) {
				take(&m)
			}
			return nil
		})
		if err := withoutFamily(family, err); err != nil {
			return err
		}
	}
	return nil
}

// ConnectionCounts counts without reading subflows.
func (c *Client) ConnectionCounts() (Counts, error) {
	var n Counts
	err := c.Walk(ConnectionOptions{NoSubflows: true}, Visitor{
		Begin: func() { n = Counts{} },
		Connection: func(m *Connection) {
			n.Connections++
			n.Subflows += m.SubflowCount()
			if m.Fallback {
				n.Fallback++
			}
		},
	})
	return n, err
}
