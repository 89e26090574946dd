package archtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Licences that let anyone ship the binaries under Apache-2.0, by a phrase of their text.
var permissive = []struct{ name, phrase string }{
	{"Apache-2.0", "Apache License Version 2.0"},
	{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose"},
	{"ISC", "Permission to use, copy, modify, and distribute this software for any purpose"},
	{"BSD", "Redistribution and use in source and binary forms, with or without modification, are permitted"},
}

// Texts of these bind whoever ships the binary; some modules carry them beside a permissive one.
var copyleft = regexp.MustCompile(`GNU (AFFERO|LESSER|LIBRARY)? ?GENERAL PUBLIC LICENSE|Mozilla Public License|Eclipse Public License|Business Source License`)

// Licence names the licence of a text, or returns an empty string for one that is not known to be permissive.
func Licence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if copyleft.MatchString(text) {
		return ""
	}
	for _, l := range permissive {
		if strings.Contains(text, l.phrase) {
			return l.name
		}
	}
	return ""
}

// CheckLicences returns a line for each module linked into the packages whose licence is missing or not permissive.
// It asks the go command in dir, and reads the module cache.
func CheckLicences(dir string, packages ...string) ([]string, error) {
	modules, err := linkedModules(dir, packages)
	if err != nil {
		return nil, err
	}
	var findings []string
	for module, cache := range modules {
		names, err := licencesIn(cache)
		if err != nil {
			return nil, fmt.Errorf("read licence of %s: %w", module, err)
		}
		if len(names) == 0 || slices.Contains(names, "") {
			findings = append(findings, finding(module, "has no licence file that is known to be permissive", "licence", "anyone may ship the binaries under Apache-2.0"))
		}
	}
	slices.Sort(findings)
	return findings, nil
}

// linkedModules maps the modules behind the packages to their directories.
func linkedModules(dir string, packages []string) (map[string]string, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Module"}, packages...)...)
	cmd.Dir, cmd.Stderr = dir, new(bytes.Buffer)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list modules: %w: %s", err, cmd.Stderr)
	}
	modules := map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Module *struct {
				Path, Dir string
				Main      bool
			}
		}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return modules, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read go list's answer: %w", err)
		}
		if m := p.Module; m != nil && !m.Main {
			modules[m.Path] = m.Dir
		}
	}
}

func licencesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		upper := strings.ToUpper(e.Name())
		if e.IsDir() || !strings.HasPrefix(upper, "LICEN") && !strings.HasPrefix(upper, "COPYING") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		names = append(names, Licence(string(text)))
	}
	return names, nil
}

// CheckReasons returns a line for each direct module of the go.mod text that the table has no line for,
// and for each line of the table whose module go.mod does not have.
func CheckReasons(goMod, table string) []string {
	direct, all := requirements(goMod)
	listed := []string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z0-9.-]+\.[a-z]+/\S+) +\| \S`).FindAllStringSubmatch(table, -1) {
		listed = append(listed, m[1])
	}
	var findings []string
	for _, m := range direct {
		if !slices.Contains(listed, m) {
			findings = append(findings, finding("docs/DEPENDENCIES.md", "has no line for "+m, "reason", "a dependency is taken on purpose or not at all"))
		}
	}
	for _, m := range listed {
		if !slices.Contains(all, m) {
			findings = append(findings, finding("docs/DEPENDENCIES.md", "has a line for "+m+", which go.mod lacks", "reason", "the table tells what is there"))
		}
	}
	return findings
}

func requirements(goMod string) (direct, all []string) {
	lines := bufio.NewScanner(strings.NewReader(goMod))
	for lines.Scan() {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "require "))
		if len(fields) < 2 || !strings.Contains(fields[0], ".") || !strings.HasPrefix(fields[1], "v") {
			continue
		}
		all = append(all, fields[0])
		if !slices.Contains(fields, "indirect") {
			direct = append(direct, fields[0])
		}
	}
	return direct, all
}
