// Command man writes the manual pages. What the programs know themselves is taken from them: subflowctl's commands from
// its help, the keys of the configuration from the reference file.
//
//	go run ./docs/man DIR VERSION DATE
package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed subflowd.8 subflowctl.1 subflowd.toml.5
var sources embed.FS

// names are the pages.
var names = []string{"subflowd.8", "subflowctl.1", "subflowd.toml.5"}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: man DIR VERSION DATE")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func write(dir, version, date string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	for _, name := range names {
		text, err := page(name, version, date)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write page: %w", err)
		}
	}
	return nil
}

// page is one page, complete.
func page(name, version, date string) (string, error) {
	b, err := sources.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read page: %w", err)
	}
	text := strings.NewReplacer("@VERSION@", escape(version), "@DATE@", date).Replace(string(b))
	if strings.Contains(text, "@KEYS@") {
		text = strings.Replace(text, "@KEYS@\n", keysSection(), 1)
	}
	if strings.Contains(text, "@COMMANDS@") {
		options, commands, err := ctlSections()
		if err != nil {
			return "", err
		}
		text = strings.Replace(text, "@OPTIONS@\n", options, 1)
		text = strings.Replace(text, "@COMMANDS@\n", commands, 1)
	}
	return text, nil
}

// escape makes text of plain text: groff_man(7), "Portability".
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
