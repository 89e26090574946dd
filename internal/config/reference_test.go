package config

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/subflowd/subflowd/internal/netstate"
)

// example is a commented-out line of the reference file; text has a blank.
var example = regexp.MustCompile(`(?m)^#(\S)`)

func TestReferenceIsTheDefault(t *testing.T) {
	c, err := decode([]*document{decodeText("reference.toml", "reference.toml", Reference())})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), c, cmpopts.IgnoreFields(Config{}, "Where")); d != "" {
		t.Errorf("(-default +reference):\n%s", d)
	}
	for _, k := range hostKeys {
		if c.Where[k.name] == "" {
			t.Errorf("%s is not in the reference file with its default", k.name)
		}
	}
}

func TestInitialValuesAreTheDefault(t *testing.T) {
	c := Default()
	for _, k := range hostKeys {
		if got, _ := k.write(&c); got != k.initial {
			t.Errorf("%s: default %s, in the table of keys %s", k.name, got, k.initial)
		}
	}
	s := Default().For(netstate.Link{Name: "eth0"})
	e := LinkEntry{Fullmesh: &s.Fullmesh, Addresses: &s.Addresses, Endpoints: &s.Endpoints, Preference: &s.Preference}
	for _, k := range settingKeys {
		if got, set := k.write(&e); set && got != k.initial {
			t.Errorf("%s: default %s, in the table of keys %s", k.name, got, k.initial)
		}
	}
}

// TestReferenceExamples takes every example in, which must be valid together,
// and looks for each key of the schema, the other way round by strictness.
func TestReferenceExamples(t *testing.T) {
	// A key that has a default and an example would be there twice.
	var lines []string
	for line := range strings.Lines(string(Reference())) {
		if m := example.FindStringSubmatch(line); m != nil {
			name, _, _ := strings.Cut(line[1:], " ")
			lines = slices.DeleteFunc(lines, func(l string) bool {
				return name != "[[link]]\n" && find(linkKeys, name) == nil && strings.HasPrefix(l, name+" = ")
			})
			line = line[1:]
		}
		lines = append(lines, line)
	}
	text := strings.Join(lines, "")
	d := decodeText("reference.toml", "reference.toml", []byte(text))
	c, err := decode([]*document{d})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Links) < 3 || c.Limits.Mode != LimitsFixed || c.Metrics.Listen == "" || c.Probe.Target == "" {
		t.Errorf("examples are missing: %+v", c)
	}
	for _, k := range linkKeys {
		if !slices.ContainsFunc(c.Links, func(e LinkEntry) bool { _, set := k.write(&e); return set }) {
			t.Errorf("%s has no example in the reference file", k.name)
		}
	}
	for _, k := range limitKeys {
		if !strings.Contains(text, strings.TrimPrefix(k.name, "limits.")+" = ") {
			t.Errorf("%s has no example in the reference file", k.name)
		}
	}
}

func TestReferenceFitsATerminal(t *testing.T) {
	for i, line := range strings.Split(string(Reference()), "\n") {
		if len(line) > 80 || strings.ContainsAny(line, "\t\r") || strings.HasSuffix(line, " ") {
			t.Errorf("line %d: %q", i+1, line)
		}
	}
}

func TestReferenceIsACopy(t *testing.T) {
	Reference()[0] = 'x'
	if Reference()[0] == 'x' {
		t.Error("a caller can change the reference file")
	}
}
