package cli

import (
	"fmt"
	"time"

	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/run"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// programs are those that have connections open, by the inodes of the sockets; a
// nil one looks for none.
type programs struct {
	asked  map[uint32]bool
	owners map[uint32]kernel.Owner
	byRun  map[int]bool
	// rest is how many times as long as a search took there is none: one reads all
	// descriptors of the host. 0: as often as asked for.
	rest  int
	until time.Time
}

// find looks for the programs of connections that it was not asked for before.
func (p *programs) find(list []mptcp.Connection) {
	if p == nil {
		return
	}
	begun := time.Now()
	if begun.Before(p.until) {
		return
	}
	if p.asked == nil {
		p.asked, p.owners, p.byRun = map[uint32]bool{}, map[uint32]kernel.Owner{}, map[int]bool{}
	}
	p.forget(list)
	wanted := map[uint32]bool{}
	for i := range list {
		if inode := list[i].Inode; inode != 0 && !p.asked[inode] {
			wanted[inode], p.asked[inode] = true, true
		}
	}
	found := kernel.SocketOwners(wanted)
	p.until = time.Now().Add(time.Duration(p.rest) * time.Since(begun))
	if len(found) == 0 {
		return
	}
	served := run.FindPrograms()
	for inode, o := range found {
		p.owners[inode] = o
		if _, known := p.byRun[o.PID]; !known {
			p.byRun[o.PID] = served.Has(o.PID)
		}
	}
}

// forget drops what was found about connections that are gone, now and then: a
// screen runs for days.
func (p *programs) forget(list []mptcp.Connection) {
	const spare = 64
	if len(p.asked) <= 2*len(list)+spare {
		return
	}
	kept := programs{asked: map[uint32]bool{}, owners: map[uint32]kernel.Owner{}, byRun: map[int]bool{}, rest: p.rest}
	for i := range list {
		inode := list[i].Inode
		if !p.asked[inode] {
			continue
		}
		kept.asked[inode] = true
		if o, ok := p.owners[inode]; ok {
			kept.owners[inode], kept.byRun[o.PID] = o, p.byRun[o.PID]
		}
	}
	*p = kept
}

// into writes the programs into a document.
func (p *programs) into(d *status.Connections) *status.Connections {
	if p == nil {
		return d
	}
	for i := range d.Connections {
		c := &d.Connections[i]
		if o, ok := p.owners[c.Inode]; ok {
			c.Program, c.PID, c.Run = o.Name, o.PID, p.byRun[o.PID]
		}
	}
	return d
}

// programOf is the program of a connection in words; "" where it is not known.
func programOf(c *status.Connection) string {
	if c.PID == 0 {
		return ""
	}
	text := fmt.Sprintf("%s[%d]", clean(c.Program), c.PID)
	if c.Run {
		text += " by run"
	}
	return text
}
