package inspect

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// toolTimeout is for rule sets of many thousand rules.
const toolTimeout = 20 * time.Second

// firewall reads the rules of nft and of both kinds of iptables by their own
// programs: only these know all extensions. None of them changes anything.
func (g *gatherer) firewall() {
	opaque := g.nft()
	g.iptables(opaque)
}

// errMissing: a program is not installed.
var errMissing = errors.New("is not installed")

// errRefused: a program was not allowed to look.
var errRefused = errors.New(needsAdmin)

// run runs a program in the calling thread's namespace, which a child inherits.
func run(name string, args ...string) ([]byte, error) {
	path := lookTool(name)
	if path == "" {
		return nil, errMissing
	}
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errs bytes.Buffer
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(errs.String())
		if low := strings.ToLower(text); strings.Contains(low, "permitted") || strings.Contains(low, "permission denied") {
			return nil, errRefused
		}
		first, _, _ := strings.Cut(text, "\n")
		return nil, errors.New(name + ": " + first)
	}
	return out.Bytes(), nil
}

// lookTool finds a program also where the PATH of ordinary users does not lead;
// empty: it is not there.
func lookTool(name string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 && !st.IsDir() {
			return p
		}
	}
	return ""
}
