package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/pkg/status"
)

// explanations are those that internal/control makes of a view in its tests.
func explanations(t *testing.T) map[string]*status.Explanation {
	t.Helper()
	files, err := filepath.Glob("../control/testdata/explain/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no explanations: %v", err)
	}
	all := map[string]*status.Explanation{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var e status.Explanation
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".json")] = &e
	}
	return all
}

func TestExplanationText(t *testing.T) {
	for name, e := range explanations(t) {
		found := explanationText(e, false)
		golden(t, "explain/"+name+".txt", found)
		if diff := cmp.Diff(found, sgr.ReplaceAllString(explanationText(e, true), "")); diff != "" {
			t.Errorf("%s: colours change letters: %s", name, diff)
		}
	}
}

// TestExplanationOfAnything keeps to the width whatever the document holds.
func TestExplanationOfAnything(t *testing.T) {
	long := strings.Repeat("x", 300) + "\x1b[31m"
	for _, e := range explanations(t) {
		e.What = long
		for i := range e.Links {
			e.Links[i].Link, e.Links[i].Driver = long, long
			for k := range e.Links[i].Settings {
				e.Links[i].Settings[k].Value, e.Links[i].Settings[k].Where = long, long
			}
		}
		for i := range e.Addresses {
			e.Addresses[i].Address, e.Addresses[i].Reason = long, long
		}
		for i := range e.Destination {
			e.Destination[i].From, e.Destination[i].Found = long, long
		}
		narrow(t, explanationText(e, false))
	}
}
