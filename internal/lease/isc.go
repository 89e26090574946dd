package lease

import (
	"bytes"
	"strconv"
	"time"
)

// classlessNames are the names that option 121 has in lease files: ISC dhclient
// knows none, distributions define one in dhclient.conf.
var classlessNames = map[string]bool{
	"rfc3442-classless-static-routes": true, "classless-static-routes": true, "classless-routes": true,
	"unknown-121": true, "option-121": true,
}

// decodeISC reads a dhclient.leases(5): the leases of one link in the order of
// the file, in which a later one replaces those before it. A block without an
// end, as the last one is while the client writes, counts for nothing.
func decodeISC(b []byte, link string) []lease {
	var (
		leases []lease
		l      lease
		mine   bool
		inside bool // a block of a lease
		depth  int
		words  []string
	)
	t := iscTokens{b: b}
	for {
		kind, word := t.next()
		switch kind {
		case iscEnd:
			return leases
		case iscWord:
			words = append(words, word)
		case iscOpen:
			// No block holds one of a lease: the one before has lost its end.
			begins := len(words) > 0 && words[len(words)-1] == "lease"
			if begins {
				depth = 0
			}
			if depth == 0 {
				l, mine, inside = lease{}, false, begins
			}
			depth++
			words = nil
		case iscClose:
			if depth == 1 && inside && mine && l.addr.IsValid() {
				leases = append(leases, l)
			}
			depth = max(depth-1, 0)
			words = nil
		case iscSemicolon:
			if depth == 1 && inside {
				ok := l.statement(words)
				inside = inside && ok
				mine = mine || len(words) == 2 && words[0] == "interface" && words[1] == link
			}
			words = nil
		}
	}
}

// statement takes one statement of a block; false spoils the block.
func (l *lease) statement(w []string) bool {
	switch {
	case len(w) == 2 && w[0] == "fixed-address":
		l.addr = address(w[1])
	case len(w) > 2 && w[0] == "option" && w[1] == "routers":
		l.routers = addresses(w[2:])
	case len(w) > 2 && w[0] == "option" && classlessNames[w[1]]:
		l.setClasslessText(w[2:])
	case len(w) > 1 && w[0] == "expire":
		var ok bool
		l.expires, ok = iscTime(w[1:])
		return ok
	}
	return true
}

// iscTime reads "4 2026/11/19 12:00:00", in UTC, "epoch 1795089600", or "never",
// which is the zero time.
func iscTime(w []string) (time.Time, bool) {
	switch {
	case len(w) == 1 && w[0] == "never":
		return time.Time{}, true
	case len(w) == 2 && w[0] == "epoch":
		n, err := strconv.ParseInt(w[1], 10, 64)
		return time.Unix(n, 0), err == nil
	case len(w) == 3:
		at, err := time.ParseInLocation("2006/1/2 15:4:5", w[1]+" "+w[2], time.UTC)
		return at, err == nil
	}
	return time.Time{}, false
}

// iscTail drops what precedes the first block that begins in b, the end of a
// file that was too long to read.
func iscTail(b []byte) []byte {
	i := bytes.Index(b, []byte("\nlease {"))
	if i < 0 {
		return nil
	}
	return b[i+1:]
}

const (
	iscEnd = iota
	iscWord
	iscOpen
	iscClose
	iscSemicolon
)

// iscTokens splits the language of ISC's files. Commas separate like blanks.
type iscTokens struct {
	b []byte
	i int
}

func (t *iscTokens) next() (kind int, word string) {
	for t.i < len(t.b) {
		switch c := t.b[t.i]; {
		case c <= ' ' || c == ',':
			t.i++
		case c == '#':
			if n := bytes.IndexByte(t.b[t.i:], '\n'); n >= 0 {
				t.i += n
			} else {
				t.i = len(t.b)
			}
		case c == '{':
			t.i++
			return iscOpen, ""
		case c == '}':
			t.i++
			return iscClose, ""
		case c == ';':
			t.i++
			return iscSemicolon, ""
		case c == '"':
			return t.quoted()
		default:
			begin := t.i
			for t.i < len(t.b) && t.b[t.i] > ' ' && bytes.IndexByte([]byte(`,;{}"#`), t.b[t.i]) < 0 {
				t.i++
			}
			return iscWord, string(t.b[begin:t.i])
		}
	}
	return iscEnd, ""
}

// quoted reads a string. A server chooses what many of them hold, so that a
// brace in one must not end the block. What an escaped octet stands for matters
// for no statement that is read.
func (t *iscTokens) quoted() (kind int, word string) {
	t.i++
	begin := t.i
	for ; t.i < len(t.b); t.i++ {
		switch t.b[t.i] {
		case '\\':
			t.i++
		case '"':
			word = string(t.b[begin:t.i])
			t.i++
			return iscWord, word
		}
	}
	return iscEnd, ""
}
