package natsd

import (
	"fmt"
	"log/slog"
)

// logger passes the server's log on and catches why it could not start.
type logger struct {
	log   *slog.Logger
	fatal chan error
}

func newLogger(l *slog.Logger) *logger {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return &logger{log: l.With("component", "nats-server"), fatal: make(chan error, 1)}
}

const message = "nats server"

func (l *logger) Noticef(format string, v ...any) {
	l.log.Debug(message, "text", fmt.Sprintf(format, v...))
}

func (l *logger) Warnf(format string, v ...any) {
	l.log.Warn(message, "text", fmt.Sprintf(format, v...))
}

func (l *logger) Errorf(format string, v ...any) {
	l.log.Error(message, "text", fmt.Sprintf(format, v...))
}

func (l *logger) Fatalf(format string, v ...any) {
	err := fmt.Errorf(format, v...)
	l.log.Error(message, "text", err.Error())
	select {
	case l.fatal <- err:
	default:
	}
}

func (l *logger) Debugf(string, ...any) {}

func (l *logger) Tracef(string, ...any) {}
