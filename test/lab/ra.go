package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Radvd sends router advertisements on links of the router.
type Radvd struct {
	*Proc
	h    *Host
	file string
}

// RA is what is advertised on one link.
type RA struct {
	Dev        string
	Lifetime   int    // of the default route in seconds; 0: this router is no default router
	Preference string // "low", "medium", "high"; left out: medium
	Prefixes   []RAPrefix
	Extra      string // further lines of radvd.conf(5) for the interface
}

// RAPrefix is one prefix, on-link and autonomous.
type RAPrefix struct {
	Prefix           string // "2001:db8:1::/64"
	Valid, Preferred int    // in seconds
	OffLink          bool
}

// Radvd starts radvd with these advertisements, sent on request and every three to four seconds.
func (h *Host) Radvd(links ...RA) *Radvd {
	h.Lab.T.Helper()
	Need(h.Lab.T, "radvd")
	dir := h.Lab.TempDir()
	r := &Radvd{h: h, file: filepath.Join(dir, "radvd.conf")}
	r.write(links)
	r.Proc = h.Start("radvd", "-n", "-m", "stderr", "-d", "1", "-u", "root", "-C", r.file, "-p", filepath.Join(dir, "pid"))
	return r
}

// Set advertises something else from now on.
func (r *Radvd) Set(links ...RA) {
	r.h.Lab.T.Helper()
	r.write(links)
	if err := r.Signal(syscall.SIGHUP); err != nil {
		r.h.Lab.T.Fatalf("reload radvd: %v", err)
	}
}

func (r *Radvd) write(links []RA) {
	r.h.Lab.T.Helper()
	var b strings.Builder
	for _, l := range links {
		fmt.Fprintf(&b, "interface %s {\n AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime %d;\n",
			l.Dev, l.Lifetime)
		if l.Preference != "" {
			fmt.Fprintf(&b, " AdvDefaultPreference %s;\n", l.Preference)
		}
		for _, p := range l.Prefixes {
			onLink := "on"
			if p.OffLink {
				onLink = "off"
			}
			fmt.Fprintf(&b, " prefix %s { AdvOnLink %s; AdvAutonomous on; AdvValidLifetime %d; AdvPreferredLifetime %d; };\n",
				p.Prefix, onLink, p.Valid, p.Preferred)
		}
		fmt.Fprintf(&b, "%s\n};\n", l.Extra)
	}
	if err := os.WriteFile(r.file, []byte(b.String()), 0o644); err != nil {
		r.h.Lab.T.Fatal(err)
	}
}

// RA is what the router advertises for the path in a lab with SLAAC(), for Net.RA.Set with changes.
func (p *Path) RA() RA {
	return RA{Dev: p.routerDev, Lifetime: 1800, Prefixes: []RAPrefix{{Prefix: p.Prefix6, Valid: 3600, Preferred: 1800}}}
}

// startRA advertises on both links and waits for stable and temporary addresses on the client.
func (n *Net) startRA() {
	n.T.Helper()
	links := []RA{n.A.RA()}
	if n.B.routerDev != n.A.routerDev {
		links = append(links, n.B.RA())
	}
	n.RA = n.Router.Radvd(links...)
	for _, p := range []*Path{n.A, n.B} {
		Eventually(n.T, 30*time.Second, "addresses by SLAAC on "+p.Dev, func() error {
			stable, temporary := n.Client.Addrs6(p.Dev, false), n.Client.Addrs6(p.Dev, true)
			if len(stable) == 0 || len(temporary) == 0 {
				return fmt.Errorf("stable %v, temporary %v; radvd: %s", stable, temporary, n.RA.Log())
			}
			p.Addr6 = stable[0]
			return nil
		})
	}
}
