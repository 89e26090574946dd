// Package logging sets the program's logger up: one line for each thing that
// happened, for a terminal, for a machine, or for the systemd journal.
package logging

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Format says how lines look and where they go.
type Format string

// Formats.
const (
	// Auto is the journal when standard error is connected to it, and the
	// console for everything else: pipes and files are read by people too.
	Auto    Format = "auto"
	Console Format = "console"
	JSON    Format = "json"
	Journal Format = "journal" // with a SUBFLOWD_ field for each detail
)

// ParseFormat reads the value of --log-format.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Auto, Console, JSON, Journal:
		return f, nil
	}
	return "", fmt.Errorf("unknown log format %q: auto, console, json or journal", s)
}

// ParseLevel reads the value of --log-level.
func ParseLevel(s string) (zapcore.Level, error) {
	switch s {
	case "debug", "info", "warn", "error":
		return zapcore.ParseLevel(s)
	}
	return 0, fmt.Errorf("unknown log level %q: debug, info, warn or error", s)
}

// New makes a logger that writes to w, or to the journal where the format asks
// for that, or leaves the choice and w leads there.
func New(f Format, level zapcore.Level, w io.Writer) *zap.Logger {
	if f == Auto {
		f = Console
		if file, ok := w.(*os.File); ok && connectedToJournal(file, os.Getenv("JOURNAL_STREAM")) {
			f = Journal
		}
	}
	if f == Journal {
		return zap.New(&journalCore{LevelEnabler: level, out: &outbox{send: sendJournal, fallback: w}})
	}
	return zap.New(core(f, level, w))
}

func core(f Format, level zapcore.Level, w io.Writer) zapcore.Core {
	c := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", MessageKey: "message", LineEnding: "\n",
		EncodeTime: zapcore.RFC3339NanoTimeEncoder, EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.SecondsDurationEncoder,
	}
	sink := zapcore.Lock(zapcore.AddSync(w))
	if f == JSON {
		return zapcore.NewCore(zapcore.NewJSONEncoder(c), sink, level)
	}
	c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	c.EncodeDuration = zapcore.StringDurationEncoder
	c.ConsoleSeparator = " "
	return zapcore.NewCore(zapcore.NewConsoleEncoder(c), sink, level)
}

// connectedToJournal tells whether a file is the stream that systemd names in
// JOURNAL_STREAM as device and inode (systemd.exec(5)). The variable alone says
// nothing: children inherit it together with a redirected standard error.
func connectedToJournal(w *os.File, stream string) bool {
	dev, ino, ok := strings.Cut(stream, ":")
	if !ok {
		return false
	}
	info, err := w.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && strconv.FormatUint(uint64(st.Dev), 10) == dev && strconv.FormatUint(st.Ino, 10) == ino
}
