package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/subflowd/subflowd/internal/netstate"
)

// form is a kind of value: how it is read into a T, how it is written, and what
// is allowed, in words.
type form[T any] struct {
	allowed string
	read    func(*T, *node) *objection
	write   func(*T) (text string, set bool) // as TOML
}

// objection is what speaks against a value.
type objection struct {
	why   string // completes "role cannot be 3: "; may be empty
	meant string // as TOML
}

// slot is where a value lives in a T.
type slot[T, V any] struct {
	get func(*T) (v V, set bool)
	set func(*T, V)
}

func always[T, V any](at func(*T) *V) slot[T, V] {
	return slot[T, V]{
		get: func(t *T) (V, bool) { return *at(t), true },
		set: func(t *T, v V) { *at(t) = v },
	}
}

func pointer[T, V any](at func(*T) **V) slot[T, V] {
	return slot[T, V]{
		get: func(t *T) (v V, set bool) {
			if p := *at(t); p != nil {
				return *p, true
			}
			return v, false
		},
		set: func(t *T, v V) { *at(t) = &v },
	}
}

func nonzero[T any, V comparable](at func(*T) *V) slot[T, V] {
	return slot[T, V]{
		get: func(t *T) (V, bool) {
			var zero V
			return *at(t), *at(t) != zero
		},
		set: func(t *T, v V) { *at(t) = v },
	}
}

// text is the form of values that stand in quotes; check tells what speaks
// against one.
func text[T, V any](s slot[T, V], allowed string, check func(string) (V, *objection), show func(V) string) form[T] {
	return form[T]{
		allowed: allowed,
		read: func(t *T, n *node) *objection {
			if n.kind != unstable.String {
				if n.isTable() || n.kind == unstable.Array {
					return &objection{}
				}
				// Whoever left the quotes out may have written what would do with them.
				o := &objection{why: "text must stand in quotes", meant: quote(n.text)}
				if _, bad := check(n.text); bad != nil {
					o.meant = bad.meant
				}
				return o
			}
			v, bad := check(n.text)
			if bad == nil {
				s.set(t, v)
			}
			return bad
		},
		write: func(t *T) (string, bool) {
			v, ok := s.get(t)
			return quote(show(v)), ok
		},
	}
}

func plain(s string) string { return s }

// words is the form of a choice.
func words[T any, W ~string](s slot[T, W], choices ...W) form[T] {
	var quoted, known []string
	for _, c := range choices {
		known, quoted = append(known, string(c)), append(quoted, quote(string(c)))
	}
	last := len(quoted) - 1
	allowed := strings.Join(quoted[:last], ", ") + " or " + quoted[last]
	return text(s, allowed, func(v string) (W, *objection) {
		for _, c := range choices {
			if W(v) == c {
				return c, nil
			}
		}
		o := &objection{}
		if near := nearest(v, known); near != "" {
			o.meant = quote(near)
		}
		return "", o
	}, func(w W) string { return string(w) })
}

// number is the form of whole numbers from lo to hi; check, which may be nil,
// tells what speaks against one.
func number[T any, V ~int | ~uint8 | ~uint32](s slot[T, V], lo, hi int64, check func(int64) string) form[T] {
	return form[T]{
		allowed: fmt.Sprintf("a whole number from %d to %d", lo, hi),
		read: func(t *T, n *node) *objection {
			// TOML writes numbers as Go does, but for 0o, and a sign that Go takes as well.
			v, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 0, 64)
			switch {
			case n.kind == unstable.String:
				o := &objection{why: "numbers stand without quotes"}
				if v, err := strconv.Atoi(n.text); err == nil && lo <= int64(v) && int64(v) <= hi {
					o.meant = strconv.Itoa(v)
				}
				return o
			case n.kind != unstable.Integer || err != nil || v < lo || v > hi:
				return &objection{}
			}
			if check != nil {
				if why := check(v); why != "" {
					return &objection{why: why}
				}
			}
			s.set(t, V(v))
			return nil
		},
		write: func(t *T) (string, bool) {
			v, ok := s.get(t)
			return strconv.FormatInt(int64(v), 10), ok
		},
	}
}

// truth is the form of a yes or no.
func truth[T any](s slot[T, bool]) form[T] {
	return form[T]{
		allowed: "true or false, without quotes",
		read: func(t *T, n *node) *objection {
			if n.kind != unstable.Bool {
				return &objection{meant: truths[strings.ToLower(n.text)]}
			}
			s.set(t, n.text == "true")
			return nil
		},
		write: func(t *T) (string, bool) {
			v, ok := s.get(t)
			return strconv.FormatBool(v), ok
		},
	}
}

// Bounds of the resync: a shorter one is a busy loop, a longer one leaves what
// sends no event unseen.
const (
	minResync = time.Second
	maxResync = time.Hour
)

// period is the form of a time between two looks.
func period[T any](s slot[T, time.Duration]) form[T] {
	return text(s, `a time from "1s" to "1h", such as "30s" or "5m"`, func(v string) (time.Duration, *objection) {
		d, err := time.ParseDuration(v)
		if err == nil && minResync <= d && d <= maxResync {
			return d, nil
		}
		o := &objection{}
		if err != nil {
			// A number alone is taken for seconds, as elsewhere.
			if d, err := time.ParseDuration(v + "s"); err == nil && minResync <= d && d <= maxResync {
				o.meant = quote(v + "s")
			}
		}
		return 0, o
	}, time.Duration.String)
}

// router is the form of a gateway's address.
func router[T any](s slot[T, netip.Addr], f netstate.Family) form[T] {
	other, example := "gateway6", "10.1.2.1"
	if f == netstate.IPv6 {
		other, example = "gateway4", "fe80::1"
	}
	return text(s, fmt.Sprintf("an %s address of a router, such as %q", f, example), func(v string) (netip.Addr, *objection) {
		a, err := netip.ParseAddr(v)
		switch {
		case err != nil:
			return a, &objection{why: "it is no IP address"}
		case a.Is4In6() && f == netstate.IPv4:
			return a, &objection{why: "it is an IPv4 address in IPv6 form", meant: quote(a.Unmap().String())}
		case a.Is4In6(), a.Is4() != (f == netstate.IPv4):
			return a, &objection{why: fmt.Sprintf("it is an %s address", netstate.FamilyOf(a)), meant: other}
		case a.Zone() != "":
			return a, &objection{why: "the link is that of the entry", meant: quote(a.WithZone("").String())}
		}
		if why := noHost(a); why != "" {
			return a, &objection{why: why}
		}
		return a, nil
	}, netip.Addr.String)
}

// noHost tells why an address is that of no other host; empty: it may be.
func noHost(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "it is the unspecified address"
	case a.IsLoopback():
		return "it is a loopback address"
	case a.IsMulticast():
		return "it is a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is the broadcast address"
	}
	return ""
}

// quote writes a text as a TOML string: ASCII control characters as \u escapes.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
