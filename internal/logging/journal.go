package logging

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap/zapcore"
)

// identifier is by what `journalctl -t` finds the lines.
const identifier = "subflowd"

// journalCore sends entries to the journal in its own protocol, so that
// journalctl can search by field: journalctl SUBFLOWD_LINK=eth0.
type journalCore struct {
	zapcore.LevelEnabler
	fields []zapcore.Field
	out    *outbox
}

func sendJournal(message string, p journal.Priority, vars map[string]string) error {
	return journal.Send(message, p, vars)
}

// With is part of zapcore.Core.
func (c *journalCore) With(fields []zapcore.Field) zapcore.Core {
	n := *c
	n.fields = append(append([]zapcore.Field(nil), c.fields...), fields...)
	return &n
}

// Check is part of zapcore.Core.
func (c *journalCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write is part of zapcore.Core.
func (c *journalCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	vars := make(map[string]string, len(enc.Fields)+1)
	vars["SYSLOG_IDENTIFIER"] = identifier
	for k, v := range enc.Fields {
		vars[fieldName(k)] = fmt.Sprint(v)
	}
	message := e.Message
	if s, ok := enc.Fields["error"]; ok {
		message += ": " + fmt.Sprint(s) // journalctl shows the message alone
	} else if s, ok := enc.Fields["reason"]; ok && s != "" {
		message += " (" + fmt.Sprint(s) + ")"
	}
	c.out.put(line{message, priority(e.Level), vars})
	return nil
}

// Sync is part of zapcore.Core. It waits until the journal has every entry, for
// a second at most.
func (c *journalCore) Sync() error {
	c.out.flush()
	return nil
}

// fieldName makes a name that the journal takes: upper case letters, digits and
// underscores (systemd.journal-fields(7)).
func fieldName(key string) string {
	return "SUBFLOWD_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

func priority(l zapcore.Level) journal.Priority {
	switch {
	case l <= zapcore.DebugLevel:
		return journal.PriDebug
	case l == zapcore.InfoLevel:
		return journal.PriInfo
	case l == zapcore.WarnLevel:
		return journal.PriWarning
	}
	return journal.PriErr
}
