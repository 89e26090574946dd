package config

import (
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Decision is one setting of a link and who decided it.
type Decision struct {
	Key   string `json:"key"`
	Value string `json:"value"` // as in a file, without quotes; "auto": the link's state decides; "none": no router
	Where string `json:"where"` // "default", "role in subflowd.toml:3", "[[link]] in conf.d/10-lte.toml:4"
}

// Explain is every setting of a link, in the order of the reference file, with
// the entry that decided it.
func (c Config) Explain(l netstate.Link) []Decision {
	var all []Decision
	for _, k := range settingKeys {
		d := Decision{Key: k.name, Value: strings.Trim(k.initial, `"`), Where: "default"}
		switch k.name {
		case "role":
			d.Value = string(c.Role)
			if w, ok := c.Where["role"]; ok {
				d.Where = "role in " + w
			}
		case "uplink":
			d.Value = "auto"
		case "backup":
			d.Value = "false"
			if l.Cellular() {
				d.Value, d.Where = "true", "default of cellular links"
			}
		case "gateway4", "gateway6":
			d.Value = "none"
		}
		for i := range c.Links {
			e := &c.Links[i]
			if text, set := k.write(e); set && e.Matches(l) {
				d.Value, d.Where = strings.Trim(text, `"`), "[[link]] in "+e.Where
			}
		}
		all = append(all, d)
	}
	return all
}
