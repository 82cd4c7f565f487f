package sqldb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"modernc.org/sqlite"
)

// Compiling a statement takes SQLite longer than running one that touches a few
// rows, and a service has few texts: each connection keeps what it compiled last.
// (pgx does the same for PostgreSQL.)
const (
	// maxStatements is how many statements a connection keeps.
	maxStatements = 64
	// maxStatementText is the longest text that is kept, in bytes: longer ones carry
	// long lists of parameters and seldom come again as they are.
	maxStatementText = 4 << 10
)

// sqliteConnector makes connections to one file.
type sqliteConnector struct{ uri string }

func (c sqliteConnector) Driver() driver.Driver { return &sqlite.Driver{} }

func (c sqliteConnector) Connect(context.Context) (driver.Conn, error) {
	opened, err := c.Driver().Open(c.uri)
	if err != nil {
		return nil, err
	}
	inner, ok := opened.(driverConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("sqldb: a connection of %T is of no use", c.Driver()), opened.Close())
	}
	return &sqliteConn{driverConn: inner}, nil
}

// driverConn is what the driver's connections can do and database/sql asks for.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// sqliteConn is a connection that compiles a text once. Like every driver.Conn it is
// used by one goroutine at a time, which may run a statement while it reads the rows
// of another.
type sqliteConn struct {
	driverConn
	// idle are the statements that nobody runs, the one used last at the end.
	idle []statement
}

type statement struct {
	driverStmt
	text string
}

type driverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

var (
	_ driver.ExecerContext  = (*sqliteConn)(nil)
	_ driver.QueryerContext = (*sqliteConn)(nil)
)

// ExecContext implements driver.ExecerContext.
func (c *sqliteConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.take(ctx, text)
	if err != nil {
		return nil, err
	}
	r, err := s.ExecContext(ctx, args)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return r, c.keep(s)
}

// QueryContext implements driver.QueryerContext.
func (c *sqliteConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.take(ctx, text)
	if err != nil {
		return nil, err
	}
	r, err := s.QueryContext(ctx, args)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &statementRows{Rows: r, conn: c, statement: s}, nil
}

// Close implements driver.Conn.
func (c *sqliteConn) Close() error {
	var errs []error
	for _, s := range c.idle {
		errs = append(errs, s.Close())
	}
	c.idle = nil
	return errors.Join(append(errs, c.driverConn.Close())...)
}

// take gives the compiled statement to one user.
func (c *sqliteConn) take(ctx context.Context, text string) (statement, error) {
	for i := range slices.Backward(c.idle) {
		if s := c.idle[i]; s.text == text {
			c.idle = slices.Delete(c.idle, i, i+1)
			return s, nil
		}
	}
	prepared, err := c.PrepareContext(ctx, text)
	if err != nil {
		return statement{}, err
	}
	s, ok := prepared.(driverStmt)
	if !ok {
		return statement{}, errors.Join(fmt.Errorf("sqldb: a statement of %T is of no use", c.driverConn), prepared.Close())
	}
	return statement{driverStmt: s, text: text}, nil
}

// keep takes a statement back that did what it had to.
func (c *sqliteConn) keep(s statement) error {
	if len(s.text) > maxStatementText {
		return s.Close()
	}
	c.idle = append(c.idle, s)
	if len(c.idle) <= maxStatements {
		return nil
	}
	oldest := c.idle[0]
	c.idle = slices.Delete(c.idle, 0, 1)
	return oldest.Close()
}

// statementRows give the statement back when they are closed.
type statementRows struct {
	driver.Rows
	conn      *sqliteConn
	statement statement
}

// Close implements driver.Rows. database/sql calls it once.
func (r *statementRows) Close() error {
	if err := r.Rows.Close(); err != nil {
		return errors.Join(err, r.statement.Close())
	}
	return r.conn.keep(r.statement)
}
