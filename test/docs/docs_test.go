// Package docs keeps the documentation true where a program can tell: the configuration in it is valid, the conditions,
// tests and pages that it names exist, and no condition is missing.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/config"
)

const root = "../.."

// pages are the Markdown files of the project, with their text.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	read := func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found[path] = string(b)
	}
	walk(t, filepath.Join(root, "docs"), func(path string) {
		if filepath.Ext(path) == ".md" {
			read(path)
		}
	})
	read(filepath.Join(root, "README.md"))
	if len(found) < 10 {
		t.Fatalf("found %d pages only: %v", len(found), slices.Sorted(maps.Keys(found)))
	}
	return found
}

func walk(t *testing.T, dir string, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			visit(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var tomlBlock = regexp.MustCompile("(?ms)^```toml\n(.*?)^```$")

func TestConfiguration(t *testing.T) {
	n := 0
	for path, text := range pages(t) {
		for _, m := range tomlBlock.FindAllStringSubmatch(text, -1) {
			n++
			file := filepath.Join(t.TempDir(), "subflowd.toml")
			if err := os.WriteFile(file, []byte(m[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := config.Load(file); err != nil {
				t.Errorf("%s: a configuration in it is not valid:\n%s\n%v", path, m[1], err)
			}
		}
	}
	if n < 10 {
		t.Errorf("found %d pieces of configuration only", n)
	}
}

// codeArgument is which argument of a method that makes findings is the code.
var codeArgument = map[string]int{"find": 1, "note": 0}

var (
	codeShape = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	codeRow   = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|")
)

// TestEveryCode compares the codes of all findings in the source with the rows of the table in troubleshooting.md.
func TestEveryCode(t *testing.T) {
	inSource := map[string]string{}
	for _, dir := range []string{"internal", "cmd"} {
		walk(t, filepath.Join(root, dir), func(path string) {
			if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				for _, c := range codesIn(t, path) {
					inSource[c] = path
				}
			}
		})
	}
	if len(inSource) < 20 {
		t.Fatalf("found %d codes in the source only: %v", len(inSource), inSource)
	}
	table := pages(t)[filepath.Join(root, "docs", "troubleshooting.md")]
	described := map[string]bool{}
	for _, m := range codeRow.FindAllStringSubmatch(table, -1) {
		described[m[1]] = true
		if inSource[m[1]] == "" {
			t.Errorf("docs/troubleshooting.md describes %s, which nothing in the source reports", m[1])
		}
	}
	for c, path := range inSource {
		if !described[c] {
			t.Errorf("%s reports %s, which has no row in docs/troubleshooting.md", path, c)
		}
	}
}

// codesIn finds the codes that a file can report: the Code of a composite literal, a constant named code..., the
// argument of a method that makes findings.
func codesIn(t *testing.T, path string) []string {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	take := func(e ast.Expr) {
		l, ok := e.(*ast.BasicLit)
		if !ok || l.Kind != token.STRING {
			return
		}
		if s, err := strconv.Unquote(l.Value); err == nil && codeShape.MatchString(s) {
			found = append(found, s)
		}
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Code" {
				take(n.Value)
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if strings.HasPrefix(name.Name, "code") && i < len(n.Values) {
					take(n.Values[i])
				}
			}
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok {
				if i, makes := codeArgument[s.Sel.Name]; makes && i < len(n.Args) {
					take(n.Args[i])
				}
			}
		}
		return true
	})
	return found
}

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
)

// TestNamedTests looks for the tests that the pages give as proof.
func TestNamedTests(t *testing.T) {
	there := map[string]bool{}
	for _, dir := range []string{"internal", "cmd", "pkg", "test"} {
		walk(t, filepath.Join(root, dir), func(path string) {
			if !strings.HasSuffix(path, "_test.go") {
				return
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range testFunc.FindAllStringSubmatch(string(b), -1) {
				there[m[1]] = true
			}
		})
	}
	for path, text := range pages(t) {
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which does not exist", path, m[1])
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// TestLinks looks for the files to which pages lead.
func TestLinks(t *testing.T) {
	for path, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}
