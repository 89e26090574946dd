package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

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

func encode(o netstate.Ownership, bootID string, cookie uint64) ([]byte, error) {
	d := document{
		header:      header{Version: version, BootID: bootID, Namespace: cookie},
		Endpoints:   make([]endpoint, 0, len(o.Endpoints)),
		LimitsFound: (*limits)(o.LimitsFound), LimitsSet: (*limits)(o.LimitsSet), LimitsBefore: (*limits)(o.LimitsBefore),
	}
	for _, p := range o.Protocols {
		d.Protocols = append(d.Protocols, int(p))
	}
	for _, ip := range slices.SortedFunc(maps.Keys(o.Endpoints), netip.Addr.Compare) {
		e := o.Endpoints[ip]
		d.Endpoints = append(d.Endpoints, endpoint{Address: ip, Link: e.Link, ID: e.ID, Pending: e.ID == 0})
	}
	b, err := json.Marshal(d)
	return append(b, '\n'), err
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
		if !e.Address.IsValid() || e.Address.Is4In6() || e.Link < 0 || e.Pending != (e.ID == 0) {
			return none, fmt.Errorf("%w (an endpoint makes no sense)", errDamaged)
		}
		o.Endpoints[e.Address] = netstate.Endpoint{Addr: e.Address, Link: e.Link, ID: e.ID}
	}
	return o, nil
}
