package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/subflowd/subflowd/internal/cli"
)

// help is what subflowctl says of one command.
type help struct {
	text     []string            // before the first section
	sections map[string][]string // by header: "Flags", "Global Flags"
}

func helpOf(command ...string) (help, error) {
	var out, errs bytes.Buffer
	if code := cli.Main(append([]string{"help"}, command...), strings.NewReader(""), &out, &errs, nil); code != cli.ExitDone {
		return help{}, fmt.Errorf("subflowctl help %s: exit %d: %s", strings.Join(command, " "), code, &errs)
	}
	h := help{sections: map[string][]string{}}
	section := ""
	for line := range strings.Lines(out.String()) {
		line = strings.TrimRight(line, " \n")
		switch {
		case header.MatchString(line):
			section = strings.TrimSuffix(line, ":")
		case section == "":
			h.text = append(h.text, line)
		case line != "" && line[0] != ' ':
			section = "after"
		case line != "":
			h.sections[section] = append(h.sections[section], line)
		}
	}
	return h, nil
}

var (
	header  = regexp.MustCompile(`^(Usage|Aliases|Examples|Available Commands|Flags|Global Flags):$`)
	flagRow = regexp.MustCompile(`^ +((?:-[a-zA-Z], )?--[a-z0-9-]+)(?: ([a-zA-Z]+))?  +(.*)$`)
)

// ctlSections are the options of all commands, and the commands.
func ctlSections() (options, commands string, err error) {
	root, err := helpOf()
	if err != nil {
		return "", "", err
	}
	if options, err = flagList(root.sections["Flags"]); err != nil {
		return "", "", err
	}
	var b strings.Builder
	for _, line := range root.sections["Available Commands"] {
		name := strings.Fields(line)[0]
		h, err := helpOf(name)
		if err != nil {
			return "", "", err
		}
		section, err := commandSection(name, h)
		if err != nil {
			return "", "", err
		}
		b.WriteString(section)
	}
	if b.Len() == 0 {
		return "", "", errors.New("subflowctl help names no commands")
	}
	return options, b.String(), nil
}

func commandSection(name string, h help) (string, error) {
	var b strings.Builder
	synopsis := "subflowctl " + name
	if usage := h.sections["Usage"]; len(usage) > 0 {
		synopsis = strings.TrimSuffix(strings.TrimSpace(usage[0]), " [flags]")
	}
	fmt.Fprintf(&b, ".SS %s\n", escape(strings.TrimPrefix(synopsis, "subflowctl ")))
	b.WriteString(paragraphs(h.text))
	if sub := h.sections["Available Commands"]; len(sub) > 0 {
		for _, line := range sub {
			name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escape(name), escape(strings.TrimSpace(text)))
		}
	}
	flags, err := flagList(h.sections["Flags"])
	if err != nil {
		return "", fmt.Errorf("subflowctl help %s: %w", name, err)
	}
	b.WriteString(flags)
	if examples := h.sections["Examples"]; len(examples) > 0 {
		b.WriteString(".PP\n.EX\n")
		for _, line := range examples {
			b.WriteString(escape(strings.TrimSpace(line)) + "\n")
		}
		b.WriteString(".EE\n")
	}
	return b.String(), nil
}

// flagList is a table of flags of cobra's as a list; each command has --help.
func flagList(rows []string) (string, error) {
	var b strings.Builder
	skip := false
	for _, row := range rows {
		m := flagRow.FindStringSubmatch(row)
		switch {
		case m == nil && b.Len() == 0 && !skip:
			return "", fmt.Errorf("no flag: %q", row)
		case m == nil && skip:
		case m == nil:
			b.WriteString(escape(strings.TrimSpace(row)) + "\n")
		case strings.HasSuffix(m[1], "--help"):
			skip = true
		default:
			skip = false
			names := strings.ReplaceAll(escape(m[1]), ", ", `\fR, \fB`)
			value := ""
			if m[2] != "" {
				value = ` \fI` + escape(m[2]) + `\fR`
			}
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR%s\n%s\n", names, value, escape(m[3]))
		}
	}
	return b.String(), nil
}

// paragraphs is running text; indented lines stay as they are.
func paragraphs(lines []string) string {
	var b strings.Builder
	begin, literal := false, false
	for _, line := range lines {
		indented := strings.HasPrefix(line, " ")
		if line == "" {
			begin = b.Len() > 0
			continue
		}
		if literal && !indented {
			b.WriteString(".EE\n")
		}
		if begin {
			b.WriteString(".PP\n")
		}
		if indented && !literal {
			b.WriteString(".EX\n")
		}
		begin, literal = false, indented
		b.WriteString(escape(line) + "\n")
	}
	if literal {
		b.WriteString(".EE\n")
	}
	return b.String()
}
