package kernel

import (
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// prefixes is a set of on-link prefixes, on top of another one that is not
// changed. A router has thousands of them and asks for each of a million routes.
type prefixes struct {
	below   *prefixes
	list    []netip.Prefix
	index   map[netip.Prefix]struct{} // of list, from where that is long
	lengths []int                     // that occur in index
}

// manyPrefixes is from where a map is faster than a list.
const manyPrefixes = 16

// addUseful leaves out what holds nothing that is more specific, and the very
// short ones: halves of a default route by a tunnel. It tells whether the set grew.
func (s *prefixes) addUseful(p netip.Prefix) bool {
	if p.Bits() <= halvesMaxBits || p.IsSingleIP() || p.Addr().IsLinkLocalUnicast() || s.has(p) {
		return false
	}
	s.list = append(s.list, p)
	if len(s.list) <= manyPrefixes {
		return true
	}
	if s.index == nil {
		s.index = make(map[netip.Prefix]struct{}, 4*manyPrefixes)
		for _, old := range s.list {
			s.note(old)
		}
	}
	s.note(p)
	return true
}

func (s *prefixes) note(p netip.Prefix) {
	s.index[p] = struct{}{}
	if !slices.Contains(s.lengths, p.Bits()) {
		s.lengths = append(s.lengths, p.Bits())
	}
}

// addOnLink adds the destinations of routes without gateway, and tells whether
// the set grew.
func (s *prefixes) addOnLink(routes []netstate.Route) (grew bool) {
	for _, r := range routes {
		if r.Type == netstate.Unicast && !r.Gateway.IsValid() && r.Link != 0 && s.addUseful(r.Dst) {
			grew = true
		}
	}
	return grew
}

func (s *prefixes) has(p netip.Prefix) bool {
	for ; s != nil; s = s.below {
		if s.index == nil && slices.Contains(s.list, p) {
			return true
		}
		if _, ok := s.index[p]; ok {
			return true
		}
	}
	return false
}

// cover tells whether ip/bits lies inside a prefix of the set.
func (s *prefixes) cover(ip netip.Addr, bits int) bool {
	for ; s != nil; s = s.below {
		if s.index == nil {
			if slices.ContainsFunc(s.list, func(p netip.Prefix) bool { return bits >= p.Bits() && p.Contains(ip) }) {
				return true
			}
			continue
		}
		for _, n := range s.lengths {
			if n > bits {
				continue
			}
			if p, err := ip.Prefix(n); err == nil {
				if _, ok := s.index[p]; ok {
					return true
				}
			}
		}
	}
	return false
}
