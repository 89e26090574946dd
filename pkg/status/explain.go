package status

import "encoding/json"

// Explanation is the answer to GET /v1/explain: what the daemon makes of a link,
// an address or a destination, and why.
type Explanation struct {
	Schema int    `json:"schema"`
	What   string `json:"what"` // as it was asked for
	Kind   string `json:"kind"` // "link", "address" or "destination"
	// Links are the link itself, or those that have the address.
	Links []LinkExplanation `json:"links"`
	// Addresses are those of the link, or the one that was asked for.
	Addresses []AddressExplanation `json:"addresses"`
	// Destination is how each path reaches the destination.
	Destination []Lookup `json:"destination,omitempty"`
	// Conditions are those that name the object.
	Conditions []Condition `json:"conditions"`
}

// LinkExplanation is one link with what the configuration says of it.
type LinkExplanation struct {
	Link    string `json:"link"`
	Ifindex int    `json:"ifindex"`
	Type    string `json:"type"`             // as [[link]] matches it: "ether"
	Kind    string `json:"kind,omitempty"`   // as [[link]] matches it: "vlan"
	Driver  string `json:"driver,omitempty"` // as [[link]] matches it: "e1000e"
	MAC     string `json:"mac,omitempty"`
	Up      bool   `json:"up"`
	Carrier bool   `json:"carrier"`
	// Families say in one sentence for each family why it is or is no path.
	Families []FamilyExplanation `json:"families"`
	Settings []Setting           `json:"settings"`
}

// FamilyExplanation is what a link is in one family.
type FamilyExplanation struct {
	Family Family `json:"family"`
	IsPath bool   `json:"is_path"`
	Reason string `json:"reason"`
	Path   *Path  `json:"path,omitempty"` // absent: it is no path
}

// Setting is one setting of a link and who decided it.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"` // as in a file, without quotes; "auto": the link's state decides; "none": no router
	Where string `json:"where"` // "default", "[[link]] in conf.d/10-lte.toml:4"
}

// AddressExplanation is one address with what serves it.
type AddressExplanation struct {
	Address string   `json:"address"` // with its prefix length, or without where no link has it
	Peer    string   `json:"peer,omitempty"`
	Link    string   `json:"link"`    // empty: no link has it
	Ifindex int      `json:"ifindex"` // 0: no link has it
	Flags   []string `json:"flags"`   // "temporary", "deprecated", "tentative", "dadfailed", "secondary"
	// Rules are the source rules of ours that the kernel has, in its order and in
	// the words of ip-rule(8); MissingRules those that it should have.
	Rules        []string  `json:"rules"`
	MissingRules []string  `json:"missing_rules"`
	RulesReason  string    `json:"rules_reason"`
	Endpoint     *Endpoint `json:"endpoint,omitempty"` // absent: none is there or wanted
	// Reason is why it has or lacks an endpoint.
	Reason string `json:"reason"`
}

// Lookup is the route that the kernel takes to a destination from one address.
type Lookup struct {
	From   string `json:"from"` // empty: from no address in particular
	Link   string `json:"link"` // whose address it is; empty: of none
	Wanted string `json:"wanted"`
	Found  string `json:"found"`
	Right  bool   `json:"right"`
}

// MarshalJSON writes empty lists as [] and the schema number.
func (e Explanation) MarshalJSON() ([]byte, error) {
	type plain Explanation
	e.Schema = Schema
	fill(&e.Links)
	fill(&e.Addresses)
	fill(&e.Conditions)
	return json.Marshal(plain(e))
}

// MarshalJSON writes empty lists as [].
func (l LinkExplanation) MarshalJSON() ([]byte, error) {
	type plain LinkExplanation
	fill(&l.Families)
	fill(&l.Settings)
	return json.Marshal(plain(l))
}

// MarshalJSON writes empty lists as [].
func (a AddressExplanation) MarshalJSON() ([]byte, error) {
	type plain AddressExplanation
	fill(&a.Flags)
	fill(&a.Rules)
	fill(&a.MissingRules)
	return json.Marshal(plain(a))
}
