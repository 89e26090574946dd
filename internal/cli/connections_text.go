package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/pkg/status"
)

// The columns of a subflow's numbers.
const (
	stateColumn = 10 // FIN-WAIT-1
	rttColumn   = 8
	cwndColumn  = 6
	againColumn = 6
	bytesColumn = 7
	rateColumn  = 11
)

// connectionsText is the text of `subflowctl connections`.
func connectionsText(d *status.Connections, colours bool) string {
	p := &page{colours: colours}
	p.summary(d)
	if len(d.Connections) == 0 {
		return p.b.String()
	}
	p.line("")
	p.line(p.paint(bold, subflowRow("STATE", "RTT", "CWND", "RETR", "SENT", "RATE", "RECEIVED", "RATE")))
	for i := range d.Connections {
		p.connection(&d.Connections[i], d.SubflowsHidden)
	}
	return p.b.String()
}

func (p *page) summary(d *status.Connections) {
	subflows, fallback := 0, 0
	for i := range d.Connections {
		if d.Connections[i].Fallback {
			fallback++
			continue
		}
		subflows += len(d.Connections[i].Subflows)
	}
	if len(d.Connections) == 0 {
		p.line("no MPTCP connections")
		return
	}
	s := count(len(d.Connections), "MPTCP connection", "MPTCP connections")
	if !d.SubflowsHidden {
		s += " with " + count(subflows, "subflow", "subflows")
	}
	if fallback > 0 {
		s += fmt.Sprintf("; %d fell back to TCP", fallback)
	}
	if d.IntervalSeconds > 0 {
		s += "; rates of " + observe.Short(seconds(d.IntervalSeconds))
	}
	p.line(s)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (p *page) connection(c *status.Connection, hidden bool) {
	p.line("")
	for _, l := range wrap(c.Local+" > "+c.Remote, width) {
		p.line(p.paint(bold, l))
	}
	var facts []string
	if by := programOf(c); by != "" {
		facts = append(facts, by)
	}
	facts = append(facts, c.State, "token "+c.Token, "sent "+amount(c.AckedBytes, sentOf(c.Rate)), "received "+amount(c.ReceivedBytes, receivedOf(c.Rate)))
	for _, l := range wrap(strings.Join(facts, ", "), width-2) {
		p.line("  " + l)
	}
	switch {
	case c.Fallback:
		p.label(2, "fell back to TCP:", 0, yellow, "it has one subflow, and cannot have others")
	case len(c.Subflows) == 0 && !hidden:
		p.label(2, "no subflow:", 0, red, "nothing carries it now")
	}
	for i := range c.Subflows {
		p.subflow(&c.Subflows[i])
	}
}

func (p *page) subflow(f *status.Subflow) {
	link, colour := f.Link, green
	if link == "" {
		link, colour = "no route", red
	}
	text := f.Local + " > " + f.Remote
	if words := subflowWords(f); len(words) > 0 {
		text += " (" + strings.Join(words, ", ") + ")"
	}
	if f.AddressLink != "" {
		colour = red
	}
	p.label(2, link, 0, colour, text)
	sentRate, receivedRate := "-", "-"
	if r := f.Rate; r != nil {
		sentRate, receivedRate = observe.BitRate(r.SentBytesPerSecond), observe.BitRate(r.ReceivedBytesPerSecond)
	}
	rtt := "-"
	if f.RTTSeconds > 0 {
		rtt = observe.Short(seconds(f.RTTSeconds))
	}
	p.line(subflowRow(f.State, rtt, number(f.Cwnd), number(f.Retransmits),
		observe.Bytes(f.AckedBytes), sentRate, observe.Bytes(f.ReceivedBytes), receivedRate))
}

func subflowRow(state, rtt, cwnd, again, sent, sentRate, received, receivedRate string) string {
	return "    " + fit(state, stateColumn) + " " + left(rtt, rttColumn) + " " + left(cwnd, cwndColumn) + " " + left(again, againColumn) + "  " +
		left(sent, bytesColumn) + " " + left(sentRate, rateColumn) + "  " + left(received, bytesColumn) + " " + left(receivedRate, rateColumn)
}

// subflowWords are what is not as usual.
func subflowWords(f *status.Subflow) []string {
	var words []string
	switch {
	case f.BackupLocal && f.BackupRemote:
		words = append(words, "backup")
	case f.BackupLocal:
		words = append(words, "backup by this host")
	case f.BackupRemote:
		words = append(words, "backup by the peer")
	}
	if f.AddressLink != "" {
		words = append(words, "but the address is on "+f.AddressLink)
	}
	if !f.Established && !f.Initial && f.State == "ESTAB" {
		words = append(words, "not confirmed by the peer")
	}
	if f.Timeouts > 0 {
		words = append(words, count(int(f.Timeouts), "timeout", "timeouts")+" in a row")
	}
	switch f.Congestion {
	case "loss", "recovery":
		words = append(words, f.Congestion)
	}
	if f.Unacked > 0 && f.Lost > 0 {
		words = append(words, strconv.Itoa(int(f.Lost))+" of "+count(int(f.Unacked), "packet", "packets")+" lost")
	}
	return words
}

// amount is a number of bytes, with its rate where that is known and not zero.
func amount(bytes uint64, rate uint64) string {
	s := observe.Bytes(bytes)
	if rate > 0 {
		s += " (" + observe.BitRate(rate) + ")"
	}
	return s
}

func sentOf(r *status.Rate) uint64 {
	if r == nil {
		return 0
	}
	return r.SentBytesPerSecond
}

func receivedOf(r *status.Rate) uint64 {
	if r == nil {
		return 0
	}
	return r.ReceivedBytesPerSecond
}
