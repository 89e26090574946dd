package run

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// execute replaces this program. A file without a header is a shell script, as
// execvp(3) has it.
func execute(p Program) error {
	for _, s := range ignoredAtStart() {
		signal.Ignore(s)
	}
	err := unix.Exec(p.Path, p.Args, p.Env)
	if errors.Is(err, unix.ENOEXEC) {
		const shell = "/bin/sh"
		err = unix.Exec(shell, append([]string{shell, p.Path}, p.Args[1:]...), p.Env)
	}
	return fmt.Errorf("execute %s: %w", p.Path, err)
}

// Look finds the file of a command as execvp(3) does: along PATH unless its
// name has a slash. The error is ENOENT, EACCES, or what else stat(2) says.
func Look(command string, env []string) (string, error) {
	found := error(unix.ENOENT)
	for _, file := range candidates(command, env) {
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			found = err
		}
	}
	if command == "" {
		command = `""`
	}
	return "", fmt.Errorf("find %s: %w", command, found)
}

func candidates(command string, env []string) []string {
	switch {
	case command == "": // PATH would make directories of it
		return nil
	case strings.Contains(command, "/"):
		return []string{command}
	}
	path := "/bin:/usr/bin" // confstr(3), _CS_PATH
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
			break
		}
	}
	var files []string
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		files = append(files, dir+"/"+command)
	}
	return files
}

func executable(file string) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EACCES
	}
	return unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS)
}

// sigIgn is SIG_IGN.
const sigIgn = 1

// ignoredIn tells which signals a table of dispositions ignores: systemd
// starts its services with SIGPIPE ignored, shells what is in the background
// with SIGQUIT, and execve(2) hands that on.
func ignoredIn(table []uintptr) []os.Signal {
	var all []os.Signal
	for i, d := range table {
		if d == sigIgn {
			all = append(all, syscall.Signal(i))
		}
	}
	return all
}
