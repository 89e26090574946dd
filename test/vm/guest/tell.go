package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/subflowd/subflowd/test/vm/task"
)

var (
	portMu sync.Mutex
	port   *os.File
)

// tell sends one line to the host. What cannot be sent is printed, and stands in the log of the console.
func tell(kind byte, fields ...any) {
	line := append([]byte{kind}, fmt.Sprintln(fields...)...)
	portMu.Lock()
	defer portMu.Unlock()
	if port == nil {
		found, _ := filepath.Glob("/dev/vport*p*")
		for _, f := range found {
			port, _ = os.OpenFile(f, os.O_WRONLY, 0)
		}
	}
	if port == nil {
		fmt.Printf("guest: no port: %s", line)
		return
	}
	if _, err := port.Write(line); err != nil {
		fmt.Printf("guest: %v: %s", err, line)
	}
}

// lines tells what is written to it line by line.
type lines struct{ rest []byte }

// Write never fails.
func (l *lines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		tell(task.Output, string(l.rest[:i]))
		l.rest = l.rest[i+1:]
	}
}
