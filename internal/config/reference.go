package config

import (
	_ "embed"
	"slices"
)

//go:embed reference.toml
var reference []byte

// Reference is the annotated reference file: every key with its default, in
// words for an administrator. It is itself a valid configuration, that of
// Default().
func Reference() []byte { return slices.Clone(reference) }
