package unit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Bus is systemd.
type Bus struct {
	conn *dbus.Conn
	end  context.CancelFunc
}

// ErrNoSystemd says that this system was not started by systemd.
var ErrNoSystemd = errors.New("it does not run here")

// Dial connects to systemd, by the system bus or directly.
func Dial(ctx context.Context) (*Bus, error) {
	if _, err := os.Stat("/run/systemd/system"); errors.Is(err, os.ErrNotExist) { // sd_booted(3)
		return nil, fmt.Errorf("reach systemd: %w", ErrNoSystemd)
	}
	// The library closes the connection with its context, and then nothing could
	// be put back when ctx has ended.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	reached := context.AfterFunc(ctx, end)
	conn, err := dbus.NewWithContext(life)
	reached()
	if err != nil {
		end()
		return nil, fmt.Errorf("reach systemd: %w", err)
	}
	return &Bus{conn, end}, nil
}

// Close ends the connection.
func (b *Bus) Close() {
	b.conn.Close()
	b.end()
}

// Read returns a unit as it is loaded now.
func (b *Bus) Read(ctx context.Context, name string) (Unit, error) {
	common, err := b.conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return Unit{}, fmt.Errorf("read %s: %w", name, err)
	}
	if state := text(common, "LoadState"); state != "loaded" {
		return Unit{}, fmt.Errorf("read %s: the unit is %s", name, state)
	}
	u := Unit{Name: text(common, "Id"), Version: b.version()}
	kind := "Service"
	if u.IsSocket() {
		kind = "Socket"
	}
	p, err := b.conn.GetUnitTypePropertiesContext(ctx, u.Name, kind)
	if err != nil {
		return Unit{}, fmt.Errorf("read %s: %w", u.Name, err)
	}
	if u.IsSocket() {
		for _, l := range rows(p, "Listen") {
			u.Listen = append(u.Listen, Listen{Kind: at[string](l, 0), Address: at[string](l, 1)})
		}
		protocol, _ := p["SocketProtocol"].(int32)
		u.Protocol = int(protocol)
		return u, nil
	}
	u.service(p)
	return u, nil
}

func (u *Unit) service(p map[string]any) {
	u.Type, u.PIDFile, u.User = text(p, "Type"), text(p, "PIDFile"), text(p, "User")
	u.RootDirectory, u.RootImage = text(p, "RootDirectory"), text(p, "RootImage")
	u.NoNewPrivileges, _ = p["NoNewPrivileges"].(bool)
	u.Delegate, _ = p["Delegate"].(bool)
	u.AmbientCapabilities, _ = p["AmbientCapabilities"].(uint64)
	u.CapabilityBoundingSet, _ = p["CapabilityBoundingSet"].(uint64)
	u.NoExecPaths, _ = p["NoExecPaths"].([]string)
	u.AddressSpace, u.Data = limit(p, "LimitAS"), limit(p, "LimitDATA")
	u.Processes, u.Tasks = limit(p, "LimitNPROC"), limit(p, "TasksMax")
	hidden, _ := p["InaccessiblePaths"].([]string)
	u.Hidden = slices.Clone(hidden)
	for _, t := range rows(p, "TemporaryFileSystem") {
		u.Hidden = append(u.Hidden, at[string](t, 0))
	}
	for _, name := range []string{"BindPaths", "BindReadOnlyPaths"} {
		for _, b := range rows(p, name) {
			u.Shown = append(u.Shown, at[string](b, 1))
		}
	}
	// Both come with whether a failure to apply them is ignored.
	u.SELinuxContext, u.AppArmor = optional(p, "SELinuxContext"), optional(p, "AppArmorProfile")
	if f, ok := p["SystemCallFilter"].([]any); ok {
		u.SystemCalls = SystemCalls{Allow: at[bool](f, 0), Names: at[[]string](f, 1)}
	}
	for _, c := range rows(p, "ExecStartEx") {
		u.Commands = append(u.Commands, Command{Path: at[string](c, 0), Args: at[[]string](c, 1), Flags: at[[]string](c, 2)})
	}
}

// version is systemd's: "252.39-1~deb12u2" is 252.
func (b *Bus) version() int {
	v, err := b.conn.GetManagerProperty("Version")
	if err != nil {
		return 0
	}
	v = strings.Trim(v, `"v`)
	digits := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		v = v[:digits]
	}
	n, _ := strconv.Atoi(v)
	return n
}

// Sockets are the socket units that wait for connections in place of a service:
// run reaches none of their sockets.
func (b *Bus) Sockets(ctx context.Context, name string) ([]string, error) {
	common, err := b.conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var active []string
	by, _ := common["TriggeredBy"].([]string)
	for _, s := range by {
		if !(Unit{Name: s}).IsSocket() {
			continue
		}
		state, err := b.conn.GetUnitPropertyContext(ctx, s, "ActiveState")
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", s, err)
		}
		if text, _ := state.Value.Value().(string); text == "active" {
			active = append(active, s)
		}
	}
	return active, nil
}

// Reload has systemd read its files again.
func (b *Bus) Reload(ctx context.Context) error {
	if err := b.conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("reload systemd: %w", err)
	}
	return nil
}

// Restart restarts a unit if it runs, and waits until that is done.
func (b *Bus) Restart(ctx context.Context, name string) error {
	done := make(chan string, 1)
	if _, err := b.conn.TryRestartUnitContext(ctx, name, "replace", done); err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("restart %s: %s", name, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("restart %s: %w", name, ctx.Err())
	}
}

// watched is how long a service is watched after its start: systemd takes one of
// Type=simple for started before the program is executed.
const watched = time.Second

// Stays watches a unit for a moment, and says why it does not run any more.
func (b *Bus) Stays(ctx context.Context, name string) error {
	for end := time.Now().Add(watched); time.Now().Before(end); {
		p, err := b.conn.GetUnitPropertiesContext(ctx, name)
		if err != nil {
			return fmt.Errorf("watch %s: %w", name, err)
		}
		active, sub := text(p, "ActiveState"), text(p, "SubState")
		switch {
		case active == "failed", sub == "auto-restart":
			return fmt.Errorf("restart %s: it has failed right after the start", name)
		case active == "inactive":
			return nil // it did not run, or has done its work
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("watch %s: %w", name, ctx.Err())
		}
	}
	return nil
}

func text(p map[string]any, name string) string {
	s, _ := p[name].(string)
	return s
}

// limit is a number of which the largest is none, as is one that systemd does
// not tell.
func limit(p map[string]any, name string) uint64 {
	if n, ok := p[name].(uint64); ok {
		return n
	}
	return math.MaxUint64
}

func optional(p map[string]any, name string) string {
	pair, _ := p[name].([]any)
	return at[string](pair, 1)
}

// rows is an array of structures.
func rows(p map[string]any, name string) [][]any {
	r, _ := p[name].([][]any)
	return r
}

// at is a member of a structure, or nothing if it is of another type.
func at[T any](row []any, i int) T {
	var v T
	if i < len(row) {
		v, _ = row[i].(T)
	}
	return v
}
