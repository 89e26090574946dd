package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"
)

// DefaultPath is the file that is read where none is named; it may be missing.
const DefaultPath = "/etc/subflowd/subflowd.toml"

// dropIns is the directory beside a file whose files are read after it.
const dropIns = "conf.d"

// maxSize is the largest file that is read, in bytes.
const maxSize = 1 << 20

// Load reads a file and conf.d/*.toml beside it in lexical order, and returns
// what it read. Later files win; their links are appended. An empty path stands
// for DefaultPath, which may be missing; a named file that is missing is an
// error for which errors.Is(err, fs.ErrNotExist) holds.
//
// The error is nil or Problems, with all that is wrong in any file, and then
// the configuration is Default(): nothing is applied by halves.
func Load(path string) (Config, []string, error) {
	if path == "" {
		return load(DefaultPath, true)
	}
	return load(path, false)
}

func load(path string, mayMiss bool) (Config, []string, error) {
	var docs []*document
	var unread Problems
	read := func(path, label string, mayMiss bool) {
		b, err := readFile(path)
		switch {
		case mayMiss && errors.Is(err, fs.ErrNotExist):
		case err != nil:
			unread = append(unread, unreadable(path, err))
		default:
			docs = append(docs, decodeText(path, label, b))
		}
	}
	read(path, filepath.Base(path), mayMiss)
	dir := filepath.Join(filepath.Dir(path), dropIns)
	list, err := os.ReadDir(dir) // sorted by name
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		unread = append(unread, unreadable(dir, err))
	}
	for _, e := range list {
		// Editors leave hidden files beside the one that they write.
		if name := e.Name(); strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") {
			read(filepath.Join(dir, name), filepath.Join(dropIns, name), false)
		}
	}
	c, err := decode(docs)
	if err != nil || len(unread) > 0 {
		var ps Problems
		errors.As(err, &ps)
		return Default(), nil, append(unread, ps...)
	}
	var files []string
	for _, d := range docs {
		files = append(files, d.path)
	}
	return c, files, nil
}

var errTooLarge = fmt.Errorf("is larger than %d bytes; a configuration is not", maxSize)

// readFile reads a file that may be anything. A pipe without a writer is empty
// (O_NONBLOCK), or a reload would wait for one.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(b) > maxSize {
		err = errTooLarge
	}
	return b, err
}

// unreadable is the problem of a file as a whole.
func unreadable(path string, err error) *Problem {
	p := &Problem{File: path, Text: err.Error(), cause: err}
	var pe *fs.PathError
	switch {
	case errors.Is(err, syscall.EISDIR):
		p.Text = "is a directory, not a file"
	case errors.Is(err, syscall.ENOTDIR) && filepath.Base(path) == dropIns:
		p.Text = "is a file; it must be a directory with *.toml files, or not exist"
	case errors.As(err, &pe):
		p.Text = pe.Err.Error()
	}
	return p
}

var (
	utf8Mark = []byte("\xef\xbb\xbf")
	utf16s   = [][]byte{{0xff, 0xfe}, {0xfe, 0xff}}
)

// decodeText parses the content of a file, whatever it is.
func decodeText(path, label string, b []byte) *document {
	b = bytes.TrimPrefix(b, utf8Mark)
	if utf8.Valid(b) {
		return parse(path, label, b)
	}
	bad := 0
	for bad < len(b) {
		r, size := utf8.DecodeRune(b[bad:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		bad += size
	}
	d := parse(path, label, b[:bad])
	d.root, d.problems, d.more = newTable(headed, span{}), nil, 0
	text := "the file is not UTF-8"
	for _, mark := range utf16s {
		if bytes.HasPrefix(b, mark) {
			text = "the file is UTF-16"
		}
	}
	d.add(span{bad, bad}, text, "", "TOML in UTF-8; save the file in that encoding")
	return d
}
