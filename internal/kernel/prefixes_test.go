package kernel

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// TestPrefixesCover: the set answers as a walk over all its prefixes does.
func TestPrefixesCover(t *testing.T) {
	t.Parallel()
	v4 := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "b")), byte(rapid.IntRange(0, 3).Draw(t, "c") << 6), byte(rapid.IntRange(0, 255).Draw(t, "d"))})
	})
	v6 := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(rapid.IntRange(0, 3).Draw(t, "a")), 7: byte(rapid.IntRange(0, 255).Draw(t, "h"))})
	})
	addr := rapid.OneOf(v4, v6)
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := addr.Draw(t, "address")
		p, _ := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		below := &prefixes{}
		set := &prefixes{below: below}
		var all []netip.Prefix
		for i, p := range rapid.SliceOfN(prefix, 0, 60).Draw(t, "prefixes") {
			into := set
			if i%2 == 0 {
				into = below
			}
			grew := into.addUseful(p)
			if grew {
				all = append(all, p)
			}
			if useful := p.Bits() > halvesMaxBits && !p.IsSingleIP(); useful != set.has(p) {
				t.Fatalf("%s is in the set: %v", p, set.has(p))
			}
		}
		for range 20 {
			q := prefix.Draw(t, "question")
			want := false
			for _, p := range all {
				want = want || q.Bits() >= p.Bits() && p.Contains(q.Addr())
			}
			if got := set.cover(q.Addr(), q.Bits()); got != want {
				t.Fatalf("%s inside one of %v: %v, want %v", q, all, got, want)
			}
		}
	})
}
