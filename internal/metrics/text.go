package metrics

import (
	"bytes"
	"strconv"
	"strings"
)

// contentType is that of the text format, version 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats).
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// page is a scrape's answer in the text format. The client library brings
// protocol buffers with it, which make the daemon too large for small routers
// (docs/DEPENDENCIES.md); its parser and its linter judge this in the tests.
type page struct{ bytes.Buffer }

type kind string

const (
	gauge     kind = "gauge"
	counter   kind = "counter"
	histogram kind = "histogram"
)

// family starts a metric; all its samples follow before the next one starts.
func (p *page) family(name string, k kind, help string) {
	p.WriteString("# HELP " + name + " " + helpEscape.Replace(help) + "\n# TYPE " + name + " " + string(k) + "\n")
}

// sample writes one value; labels are names and values in turn.
func (p *page) sample(name string, value float64, labels ...string) {
	p.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		p.WriteByte("{,"[min(i, 1)])
		p.WriteString(labels[i] + `="` + labelEscape.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")) + `"`)
	}
	if len(labels) > 0 {
		p.WriteByte('}')
	}
	p.WriteString(" " + number(value) + "\n")
}

// single writes a metric of one sample without labels.
func (p *page) single(name string, k kind, help string, value float64) {
	p.family(name, k, help)
	p.sample(name, value)
}

var (
	helpEscape  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
