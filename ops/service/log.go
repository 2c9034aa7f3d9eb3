package service

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// name is the service's name, in its log and in the files of its configuration.
const name = "chmpx-service-helper"

// lineHandler writes records as "time name [LEVEL] text", one Write each.
type lineHandler struct {
	w     io.Writer // takes each line by one call; concurrent calls are its affair, as with *os.File
	attrs []slog.Attr
}

// Enabled reports that everything from info upwards is shown.
func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle writes one line.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	level := "INFO"
	switch {
	case r.Level >= slog.LevelError:
		level = "ERROR"
	case r.Level >= slog.LevelWarn:
		level = "WARNING"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s [%s] %s", r.Time.Format("2006-01-02T15:04:05-0700"), name, level, strings.ReplaceAll(r.Message, "\n", "\n\t"))
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	b.WriteByte('\n')
	_, err := io.WriteString(h.w, b.String())
	return err
}

// WithAttrs returns a handler that adds attrs to each line.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lineHandler{h.w, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup returns the handler: lines have no groups.
func (h *lineHandler) WithGroup(string) slog.Handler { return h }
