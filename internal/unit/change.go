package unit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"golang.org/x/sys/unix"
)

// systemd is what changes need of it.
type systemd interface {
	Read(ctx context.Context, name string) (Unit, error)
	Reload(ctx context.Context) error
}

// restoreTimeout is for systemd to read all of its files again.
const restoreTimeout = time.Minute

// Changer enables and disables units.
type Changer struct {
	Systemd systemd
	Host    Host
	Path    func(name string) string // of the drop-in: Path, but in tests
}

// Preview returns the drop-in that Enable would make, and changes nothing.
func (c Changer) Preview(ctx context.Context, name string) (string, error) {
	u, err := c.Systemd.Read(ctx, name)
	if err != nil {
		return "", err
	}
	for i, command := range u.Commands {
		u.Commands[i], _ = own(command)
	}
	return DropIn(u, c.Host)
}

// Enable makes the drop-in of a unit, anew if there is one, and returns its
// path. Whatever goes wrong leaves what was there. A restart of the unit makes
// it count.
func (c Changer) Enable(ctx context.Context, name string) (_ string, err error) {
	u, err := c.Systemd.Read(ctx, name)
	if err != nil {
		return "", err
	}
	file := c.Path(u.Name)
	before, err := readOwn(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.restore(ctx, file, before))
		}
	}()
	if before != nil { // what does the unit say without it?
		if err := os.Remove(file); err != nil {
			return "", fmt.Errorf("remove drop-in: %w", err)
		}
		if err := c.Systemd.Reload(ctx); err != nil {
			return "", err
		}
		if u, err = c.Systemd.Read(ctx, u.Name); err != nil {
			return "", err
		}
	}
	text, err := DropIn(u, c.Host)
	if err != nil {
		return "", err
	}
	if err := write(file, []byte(text)); err != nil {
		return "", err
	}
	if err := c.Systemd.Reload(ctx); err != nil {
		return "", err
	}
	return file, c.verify(ctx, u)
}

// verify asks systemd whether it has understood the drop-in, and whether
// another one after it says something else.
func (c Changer) verify(ctx context.Context, before Unit) error {
	now, err := c.Systemd.Read(ctx, before.Name)
	if err != nil {
		return err
	}
	if before.IsSocket() {
		if now.Protocol != unix.IPPROTO_MPTCP {
			return &Refusal{before.Name, "systemd does not take SocketProtocol=mptcp, or another drop-in overrules it"}
		}
		return nil
	}
	for i, command := range before.Commands {
		if i >= len(now.Commands) || !reflect.DeepEqual(now.Commands[i].Args, wrapped(command, c.Host).Args) {
			return &Refusal{before.Name, "another drop-in sets ExecStart= after " + FileName}
		}
	}
	return nil
}

// readOwn reads a drop-in that enable has made. Another one of that name is
// left alone.
func readOwn(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read drop-in: %w", err)
	case !bytes.HasPrefix(text, []byte(mark)):
		return nil, fmt.Errorf("%s was not made by subflowctl enable: it stays as it is", file)
	}
	return text, nil
}

// restore puts the drop-in back that was there, or none, also when ctx has
// ended: that may be what went wrong.
func (c Changer) restore(ctx context.Context, file string, before []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
	defer cancel()
	now, err := os.ReadFile(file)
	if err == nil == (before != nil) && string(now) == string(before) {
		return nil
	}
	if before != nil {
		err = write(file, before)
	} else {
		err = remove(file)
	}
	return errors.Join(err, c.Systemd.Reload(ctx))
}

// Disable removes the drop-in of a unit, loaded or not, and returns its path, or
// "" where there was none.
func (c Changer) Disable(ctx context.Context, name string) (string, error) {
	if u, err := c.Systemd.Read(ctx, name); err == nil {
		name = u.Name // of an alias
	}
	file := c.Path(name)
	_, err := readOwn(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil {
		err = remove(file)
	}
	if err != nil {
		return "", err
	}
	return file, c.Systemd.Reload(ctx)
}

// write replaces a file in one step.
func write(file string, content []byte) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory of the drop-in: %w", err)
	}
	temporary := filepath.Join(dir, "."+FileName+".new") // which systemd does not read
	err := os.WriteFile(temporary, content, 0o644)
	if err == nil {
		err = os.Rename(temporary, file)
	}
	if err != nil {
		_ = os.Remove(temporary)
		_ = os.Remove(dir)
		return fmt.Errorf("write drop-in: %w", err)
	}
	return nil
}

// remove deletes a drop-in, and its directory if nothing else is there.
func remove(file string) error {
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("remove drop-in: %w", err)
	}
	_ = os.Remove(filepath.Dir(file))
	return nil
}
