package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/subflowd/subflowd/internal/netstate"
)

// version is the version of the file's content. It rises when an older program
// would take the content for something else.
const version = 1

// header comes first, so that a record of another version is known as such
// whatever the rest has become.
type header struct {
	Version   int    `json:"version"`
	BootID    string `json:"boot_id"`
	Namespace uint64 `json:"namespace,string"` // above 2^53 where JSON readers round
}

type document struct {
	header
	Endpoints   []endpoint `json:"endpoints"`
	LimitsFound *limits    `json:"limits_found,omitempty"`
	LimitsSet   *limits    `json:"limits_set,omitempty"`
	// LimitsBefore is absent where the limits before LimitsSet were others'.
	LimitsBefore *limits `json:"limits_before,omitempty"`
	Protocols    []int   `json:"protocols,omitempty"` // of rules and routes
}

type endpoint struct {
	Address netip.Addr `json:"address"`
	Link    int        `json:"link"` // ifindex
	ID      uint8      `json:"id,omitempty"`
	Pending bool       `json:"pending,omitempty"` // announced; whether it was added is not known
}

type limits struct {
	Subflows        uint32 `json:"subflows"`
	AddAddrAccepted uint32 `json:"add_addr_accepted"`
}

// appendDocument appends what json.Marshal makes of the document, and a newline.
// Every new path waits for it, and encoding/json takes as long as making its
// routes and rules does when it has not run for a while. The boot id is JSON.
func appendDocument(b []byte, o netstate.Ownership, bootID []byte, cookie uint64) []byte {
	b = strconv.AppendInt(append(b, `{"version":`...), version, 10)
	b = append(append(b, `,"boot_id":`...), bootID...)
	b = strconv.AppendUint(append(b, `,"namespace":"`...), cookie, 10)
	b = append(b, `","endpoints":[`...)
	for i, ip := range slices.SortedFunc(maps.Keys(o.Endpoints), netip.Addr.Compare) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendEndpoint(b, ip, o.Endpoints[ip])
	}
	b = append(b, ']')
	b = appendLimits(b, "limits_found", o.LimitsFound)
	b = appendLimits(b, "limits_set", o.LimitsSet)
	b = appendLimits(b, "limits_before", o.LimitsBefore)
	for i, p := range o.Protocols {
		sep := ","
		if i == 0 {
			sep = `,"protocols":[`
		}
		b = strconv.AppendUint(append(b, sep...), uint64(p), 10)
	}
	if len(o.Protocols) > 0 {
		b = append(b, ']')
	}
	return append(b, '}', '\n')
}

func appendEndpoint(b []byte, ip netip.Addr, e netstate.Endpoint) []byte {
	b = ip.AppendTo(append(b, `{"address":"`...))
	b = strconv.AppendInt(append(b, `","link":`...), int64(e.Link), 10)
	if e.ID == 0 {
		return append(b, `,"pending":true}`...)
	}
	return append(strconv.AppendUint(append(b, `,"id":`...), uint64(e.ID), 10), '}')
}

func appendLimits(b []byte, name string, l *netstate.Limits) []byte {
	if l == nil {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":{"subflows":`...)
	b = strconv.AppendUint(b, uint64(l.Subflows), 10)
	b = strconv.AppendUint(append(b, `,"add_addr_accepted":`...), uint64(l.AddAddrAccepted), 10)
	return append(b, '}')
}

var errDamaged = errors.New("cut short or damaged")

// decode reads a record. One of another boot or namespace is valid and says
// nothing: the ownership is not Known.
func decode(b []byte, bootID string, cookie uint64) (netstate.Ownership, error) {
	var none netstate.Ownership
	var h header
	if err := json.Unmarshal(b, &h); err != nil {
		return none, fmt.Errorf("%w (%w)", errDamaged, err)
	}
	switch {
	case h.Version == 0:
		return none, fmt.Errorf("%w (no version)", errDamaged)
	case h.Version != version:
		return none, fmt.Errorf("has version %d where this program knows %d", h.Version, version)
	case h.BootID != bootID || h.Namespace != cookie:
		return none, nil
	}
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return none, fmt.Errorf("%w (%w)", errDamaged, err)
	}
	o := netstate.Ownership{
		Known: true, Endpoints: make(map[netip.Addr]netstate.Endpoint, len(d.Endpoints)),
		LimitsFound: (*netstate.Limits)(d.LimitsFound), LimitsSet: (*netstate.Limits)(d.LimitsSet), LimitsBefore: (*netstate.Limits)(d.LimitsBefore),
	}
	for _, p := range d.Protocols {
		if p < 5 || p > 254 { // below are the kernel's own (linux/rtnetlink.h)
			return none, fmt.Errorf("%w (a protocol makes no sense)", errDamaged)
		}
		o.Protocols = append(o.Protocols, uint8(p))
	}
	for _, e := range d.Endpoints {
		if !e.Address.IsValid() || e.Address.Is4In6() || e.Address.Zone() != "" || e.Link < 0 || e.Pending != (e.ID == 0) {
			return none, fmt.Errorf("%w (an endpoint makes no sense)", errDamaged)
		}
		o.Endpoints[e.Address] = netstate.Endpoint{Addr: e.Address, Link: e.Link, ID: e.ID}
	}
	return o, nil
}
