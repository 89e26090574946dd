package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pelletier/go-toml/v2"
)

// DefaultPath is the file that is read where none is named; it may be missing.
const DefaultPath = "/etc/subflowd/subflowd.toml"

// Problem is a mistake in a file.
type Problem struct {
	File   string
	Line   int // from 1; 0: the file as a whole
	Column int // from 1
	Text   string
}

// Error reads "subflowd.toml:3:1: unknown key".
func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// Load reads the configuration, and returns the files that it was read from. An
// empty path stands for DefaultPath, and for the built-in defaults if that is
// missing; a named file that is missing is an error. Mistakes in a file are
// errors that wrap *Problem, all of them at once.
func Load(path string) (Config, []string, error) {
	named := path != ""
	if !named {
		path = DefaultPath
	}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return Default(), nil, nil
	case err != nil:
		return Config{}, nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := parse(path, b)
	if err != nil {
		return Config{}, nil, err
	}
	return c, []string{path}, nil
}

// parse reads one file on top of the defaults.
func parse(name string, b []byte) (Config, error) {
	var f file
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().EnableUnmarshalerInterface()
	if err := d.Decode(&f); err != nil {
		return Config{}, decodeProblem(name, err)
	}
	if err := f.problems(name, b); err != nil {
		return Config{}, err
	}
	c := Default()
	f.apply(&c, name, b)
	return c, nil
}

func decodeProblem(name string, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var all []error
		for i := range strict.Errors {
			e := &strict.Errors[i]
			line, column := e.Position()
			all = append(all, &Problem{name, line, column, fmt.Sprintf("unknown key %q", keyText(e.Key()))})
		}
		return errors.Join(all...)
	}
	var one *toml.DecodeError
	if errors.As(err, &one) {
		line, column := one.Position()
		text := one.Error()[len("toml: "):]
		return &Problem{name, line, column, text}
	}
	return &Problem{File: name, Text: err.Error()}
}

func keyText(k toml.Key) string {
	var s string
	for i, part := range k {
		if i > 0 {
			s += "."
		}
		s += part
	}
	return s
}
