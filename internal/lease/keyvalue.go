package lease

import (
	"bytes"
	"iter"
	"strconv"
	"strings"
	"time"
)

// decodeNetworkd reads the lease of systemd-networkd, which is also that of
// NetworkManager's internal client before version 1.20. The file goes with the
// lease, so that its age says nothing.
func decodeNetworkd(b []byte) []lease {
	l, _ := networkd(b)
	return l
}

// decodeKeptNetworkd reads the same where the file outlives the lease, which
// began when it was written.
func decodeKeptNetworkd(b []byte, written time.Time) []lease {
	l, lasts := networkd(b)
	if len(l) > 0 && lasts > 0 {
		l[0].expires = written.Add(lasts)
	}
	return l
}

func networkd(b []byte) (leases []lease, lasts time.Duration) {
	var l lease
	for key, value := range assignments(b) {
		switch key {
		case "ADDRESS":
			l.addr = address(value)
		case "ROUTER":
			l.routers = addresses(strings.Fields(value))
		case "CLASSLESS_ROUTES", "ROUTES": // from version 250 on, before
			l.setClasslessText(strings.Fields(strings.ReplaceAll(value, ",", " ")))
		case "LIFETIME":
			if n, err := strconv.ParseUint(value, 10, 32); err == nil && n != forever {
				lasts = time.Duration(n) * time.Second
			}
		}
	}
	if !l.addr.IsValid() {
		return nil, 0
	}
	return []lease{l}, lasts
}

// decodeDeviceState reads what NetworkManager, from version 1.20 on, notes of a
// device while it has it, whichever DHCP client it uses.
func decodeDeviceState(b []byte) []lease {
	_, b, ok := bytes.Cut(append([]byte("\n"), b...), []byte("\n[dhcp4]\n"))
	if !ok {
		return nil
	}
	b, _, _ = bytes.Cut(b, []byte("\n["))
	var l lease
	for key, value := range assignments(b) {
		switch strings.TrimPrefix(key, "dhcp4.") {
		case "ip_address":
			l.addr = address(value)
		case "routers":
			l.routers = addresses(strings.Fields(value))
		case "rfc3442_classless_static_routes", "classless_static_routes":
			l.setClasslessText(strings.Fields(value))
		}
	}
	if !l.addr.IsValid() {
		return nil
	}
	return []lease{l}
}

// assignments yields the lines KEY=VALUE that have an end: the last one of a
// torn file has none.
func assignments(b []byte) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for {
			line, rest, ended := bytes.Cut(b, []byte("\n"))
			if !ended {
				return
			}
			b = rest
			key, value, ok := strings.Cut(string(line), "=")
			if ok && value != "" && !strings.HasPrefix(key, "#") && !yield(strings.TrimSpace(key), strings.TrimSpace(value)) {
				return
			}
		}
	}
}
