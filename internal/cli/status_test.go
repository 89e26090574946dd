package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/pkg/status"
)

// documents are those that internal/control makes of the views of its tests.
func documents(t *testing.T) map[string]*status.Document {
	t.Helper()
	files, err := filepath.Glob("../control/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	docs := map[string]*status.Document{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d status.Document
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		docs[strings.TrimSuffix(filepath.Base(f), ".json")] = &d
	}
	return docs
}

// carrying is a document whose paths carry something.
func carrying(d *status.Document) *status.Document {
	for i := range d.Paths {
		n := uint64(i)
		d.Paths[i].Traffic = &status.Traffic{
			LinkReceivedBytes: 12_400_000_000 >> n, LinkSentBytes: 340_000_000 >> n,
			Subflows: 3 * (i % 2), ReceivedBytes: 812_000_000 * (n % 2), SentBytes: 12_100_000 * (n % 2),
		}
	}
	return d
}

func TestStatusText(t *testing.T) {
	docs := documents(t)
	docs["traffic"] = carrying(documents(t)["laptop"])
	for name, d := range docs {
		t.Run(name, func(t *testing.T) {
			golden(t, "status/"+name+".txt", statusText(d, false))
		})
	}
}

var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestColoursChangeNoLetter(t *testing.T) {
	for name, d := range documents(t) {
		coloured := statusText(d, true)
		if !sgr.MatchString(coloured) {
			t.Errorf("%s: no colours", name)
		}
		if diff := cmp.Diff(statusText(d, false), sgr.ReplaceAllString(coloured, "")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestStatusOfHugeHosts keeps to the width and to a screen or two whatever the
// document holds.
func TestStatusOfHugeHosts(t *testing.T) {
	d := documents(t)["failing"]
	long := strings.Repeat("word ", 40) + strings.Repeat("x", 300)
	for i := range d.Conditions {
		d.Conditions[i].Text, d.Conditions[i].Remedy, d.Conditions[i].Object = long, long, long
	}
	for i := range 500 {
		d.Ignored = append(d.Ignored, status.Link{Link: "veth123456789" + strconv.Itoa(i), Reason: long})
		d.Paths[0].Addresses = append(d.Paths[0].Addresses, d.Paths[1].Addresses...)
		d.Pending = append(d.Pending, d.Pending[0])
		d.Paths[0].Gateways = append(d.Paths[0].Gateways, d.Paths[1].Gateways...)
	}
	d.Daemon.Version, d.Paths[0].Link = long, long
	text := statusText(d, false)
	narrow(t, text)
	if n := strings.Count(text, "\n"); n > 150 {
		t.Errorf("%d lines", n)
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text string
		w    int
		want []string
	}{
		{"", 10, []string{""}},
		{"a b", 10, []string{"a b"}},
		{" a  b\tc ", 10, []string{"a b c"}},
		{"a b ", 10, []string{"a b"}},
		{"one two three", 8, []string{"one two", "three"}},
		{"abcdefghijkl m", 8, []string{"abcdefgh", "ijkl m"}},
		{"é abcdefghijkl", 8, []string{"é", "abcdefgh", "ijkl"}},
		{"e\u0301 網路介面卡 b", 8, []string{"e\u0301", "網路介面", "卡 b"}},
		{"a網路介面卡", 8, []string{"a網路介", "面卡"}},
	} {
		if diff := cmp.Diff(c.want, wrap(c.text, c.w)); diff != "" {
			t.Errorf("%q: %s", c.text, diff)
		}
	}
}

// TestFit: characters of East Asia have two columns, and marks above others none.
func TestFit(t *testing.T) {
	for _, c := range []struct {
		text string
		w    int
		want string
	}{
		{"ab", 4, "ab  "},
		{"abcde", 4, "abc~"},
		{"網路", 4, "網路"},
		{"網路", 5, "網路 "},
		{"網路介", 5, "網路~"},
		{"網路介", 4, "網~ "},
		{"e\u0301e", 3, "e\u0301e "},
		{"ｱﾊﾟ", 3, "ｱﾊﾟ"}, // half width
		{"🌐 x", 4, "🌐 x"},
	} {
		if found := fit(c.text, c.w); found != c.want {
			t.Errorf("%q in %d: %q, wanted %q", c.text, c.w, found, c.want)
		}
	}
}
