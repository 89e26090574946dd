// Package archtest holds the rules of where code may go, and checks a source tree against them.
package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is the path that go.mod declares.
const Module = "github.com/subflowd/subflowd"

// rule is one sentence of the architecture. A check returns what in the file breaks it.
type rule struct {
	name string
	why  string
	// tests says whether the rule binds test code too: _test.go files, packages named *test, and the tree below test/.
	tests bool
	check func(f *file) []string
}

// file is one Go source file, with slash-separated paths relative to the root of the tree.
type file struct {
	path    string
	dir     string
	lines   int
	ast     *ast.File
	imports []string
	names   map[string]string // name in the file -> import path
}

// Check returns one line for each place in the tree that breaks a rule, in the order of the paths:
// the place, what is wrong, the rule's name and its reason. The error tells of a tree that cannot be read or parsed.
func Check(tree fs.FS) ([]string, error) {
	var findings []string
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipped(p):
			return fs.SkipDir
		case !d.Type().IsRegular() || d.Name() == ".git" || strings.HasSuffix(p, ".test") || strings.HasSuffix(p, ".out"):
			return nil
		}
		text, err := fs.ReadFile(tree, p)
		if err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
		findings = append(findings, checkText(p, text)...)
		if path.Ext(p) != ".go" || strings.HasPrefix(p, "internal/tools/") || strings.Contains("/"+p, "/testdata/") {
			return nil
		}
		f, err := parse(p, text)
		if err != nil {
			return err
		}
		findings = append(findings, checkFile(f)...)
		return nil
	})
	return findings, err
}

func skipped(dir string) bool { return slices.Contains([]string{".git", "bin", "dist"}, dir) }

func parse(p string, text []byte) (*file, error) {
	tree, err := parser.ParseFile(token.NewFileSet(), p, text, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("parse %w", err)
	}
	f := &file{path: p, dir: path.Dir(p), lines: bytes.Count(text, []byte("\n")), ast: tree, names: map[string]string{}}
	for _, spec := range tree.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("parse import in %s: %w", p, err)
		}
		f.imports = append(f.imports, imported)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		f.names[name] = imported
	}
	return f, nil
}

func checkFile(f *file) []string {
	var findings []string
	for _, r := range rules {
		if f.isTest() && !r.tests {
			continue
		}
		for _, what := range r.check(f) {
			findings = append(findings, finding(f.path, what, r.name, r.why))
		}
	}
	return findings
}

func finding(place, what, rule, why string) string {
	return fmt.Sprintf("%s: %s [%s: %s]", place, what, rule, why)
}

func (f *file) isTest() bool {
	return strings.HasSuffix(f.path, "_test.go") || strings.HasSuffix(f.dir, "test") || f.under("test")
}

// under tells whether the file is in one of the directories, or below it.
func (f *file) under(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return f.dir == d || strings.HasPrefix(f.dir, d+"/") })
}

// importing returns the file's imports that are one of the packages or below it.
func (f *file) importing(packages ...string) []string {
	var found []string
	for _, i := range f.imports {
		if slices.ContainsFunc(packages, func(p string) bool { return i == p || strings.HasPrefix(i, p+"/") }) {
			found = append(found, "imports "+i)
		}
	}
	return found
}

// using returns the uses of package-level names (in, for example, time.Now) that the function picks.
func (f *file) using(pick func(pkg, name string) bool) []string {
	var found []string
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		if imported := f.names[x.Name]; imported != "" && pick(imported, sel.Sel.Name) {
			found = append(found, "uses "+path.Base(imported)+"."+sel.Sel.Name)
		}
		return true
	})
	slices.Sort(found)
	return slices.Compact(found)
}

func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}
