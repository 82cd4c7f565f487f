package service

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb/sqldbtest"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/ports"
)

func TestStartsBeforeNATSAndStopsInOrder(t *testing.T) {
	f := newFixture(t)
	f.cfg.Admin.Names = []string{"scanner.fleet.test"}
	atStop := make(chan error, 1)
	d := definition(func(d Deps) (App, error) {
		if d.Name != "scanner" || d.Bus == nil || d.TLS == nil || d.DB == nil || d.Now == nil || d.Config.StopTimeout != 8*time.Second {
			t.Errorf("Deps are incomplete: %+v", d)
		}
		return testApp(func(ctx context.Context) error {
			<-ctx.Done()
			// What the service needs to finish its work must still be there.
			err := errors.Join(query(d.DB.DB), d.Bus.Ready())
			if got := d.Readiness.Components()[componentApp]; !errors.Is(got, errStopping) {
				err = errors.Join(err, errors.New("told to stop while ready"))
			}
			atStop <- err
			return nil
		}), nil
	})
	f.run(d)

	eventually(t, "the service runs without NATS", func() bool { return f.readyz().Components[componentApp] == "ready" })
	for host, want := range map[string]int{
		"rebound.example": http.StatusMisdirectedRequest, "scanner.fleet.test": http.StatusOK, "scanner": http.StatusOK,
	} {
		if got := f.adminStatus(host, ""); got != want {
			t.Errorf("admin server, Host %s: %d, want %d", host, got, want)
		}
	}
	if got := f.adminStatus("scanner", "http://rebound.example"); got != http.StatusForbidden {
		t.Errorf("admin server, foreign Origin: %d", got)
	}
	if got := f.readyz(); got.Code != 503 || got.Ready || got.Components["database"] != "ready" || !strings.Contains(got.Components["eventbus"], "not connected") {
		t.Errorf("readyz without NATS: %+v", got)
	}
	f.startNATS()
	f.provision()
	f.waitReady()
	if got := f.readyz(); got.Code != 200 || !got.Ready {
		t.Errorf("readyz: %+v", got)
	}
	f.cancel()
	if err := f.stopped(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if err := <-atStop; err != nil {
		t.Errorf("at the stop: %v", err)
	}
	log := f.logs.String()
	for _, want := range []string{`"msg":"service starting"`, `"msg":"service ready"`, `"msg":"service stopping"`, `"msg":"service stopped"`, `"service":"scanner"`} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %s:\n%s", want, log)
		}
	}
}

func TestDatabaseComesAndGoes(t *testing.T) {
	dsn := sqldbtest.Postgres(t).DSN
	u, err := url.Parse(dsn)
	if err != nil || u.Host == "" {
		t.Skipf("needs the URL form in %s", sqldbtest.EnvPostgres)
	}
	port, server := ports.Free(t), u.Host
	u.Host = "127.0.0.1:" + strconv.Itoa(port)
	f := newFixture(t)
	f.cfg.Database = sqldb.Config{Driver: sqldb.Postgres, DSN: u.String()}
	made := make(chan error, 1)
	f.run(definition(func(d Deps) (App, error) {
		made <- query(d.DB.DB)
		return testApp(untilStopped), nil
	}))

	eventually(t, "readyz names the database", func() bool {
		got := f.readyz()
		return got.Code == 503 && strings.Contains(got.Components["database"], "connect") && got.Components[componentApp] == "starting"
	})
	select {
	case <-made:
		t.Fatal("New was called without a database")
	default:
	}
	cut := proxy(t, port, server)
	select {
	case err := <-made:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testWait):
		t.Fatalf("New was not called; log:\n%s", f.logs)
	}
	if got := f.readyz().Components["database"]; got != "ready" {
		t.Errorf("database: %s", got)
	}
	cut()
	eventually(t, "readyz misses the database", func() bool { return f.readyz().Components["database"] != "ready" })
	proxy(t, port, server)
	eventually(t, "readyz sees it again", func() bool { return f.readyz().Components["database"] == "ready" })
	f.cancel()
	if err := f.stopped(); err != nil {
		t.Errorf("Run = %v", err)
	}
	for _, want := range []string{"waiting for the database", "database lost", "database back"} {
		if !strings.Contains(f.logs.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, f.logs)
		}
	}
}

func TestStopsWhileWaitingForTheDatabase(t *testing.T) {
	f := newFixture(t)
	f.cfg.Database = sqldb.Config{Driver: sqldb.Postgres, DSN: "postgres://u@127.0.0.1:1/db?sslmode=disable"}
	f.run(definition(func(Deps) (App, error) { return nil, errors.New("New was called") }))
	eventually(t, "readyz names the database", func() bool { return f.readyz().Components["database"] != "starting" })
	f.cancel()
	if err := f.stopped(); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestFailures(t *testing.T) {
	boom := errors.New("boom")
	good := func(Deps) (App, error) { return testApp(untilStopped), nil }
	tests := map[string]struct {
		change func(*fixture)
		newApp func(Deps) (App, error)
		want   string
	}{
		"new":            {nil, func(Deps) (App, error) { return nil, boom }, "scanner: component service: start: boom"},
		"run":            {nil, func(Deps) (App, error) { return testApp(func(context.Context) error { return boom }), nil }, "component service: boom"},
		"early end":      {nil, func(Deps) (App, error) { return testApp(func(context.Context) error { return nil }), nil }, "component service ended although nothing told it to"},
		"sqlite":         {func(f *fixture) { f.cfg.Database.DSN = filepath.Join(f.cfg.TLS.CAFile, "x.db") }, good, "component database"},
		"tls files":      {func(f *fixture) { f.cfg.TLS.CertFile = "none.crt" }, good, "none.crt"},
		"other identity": {func(f *fixture) { f.cfg.TLS = f.issue("signer") }, good, "is the certificate of spiffe://seaworthy.local/service/signer, not of spiffe://seaworthy.local/service/scanner"},
		"invalid":        {func(f *fixture) { f.cfg.Color = "pink"; f.cfg.Admin.Listen = "nowhere" }, good, "admin.listen: \"nowhere\" is not host:port\ncolor: \"pink\" is neither grey nor red"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if tt.change != nil {
				tt.change(f)
			}
			f.run(definition(tt.newApp))
			err := f.stopped()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Run = %v, want %q", err, tt.want)
			}
			if errors.Is(err, ErrConfig) != (name == "invalid") {
				t.Errorf("ErrConfig is wrong in %v", err)
			}
		})
	}
}

func TestStuckServiceIsNamedAfterItsTime(t *testing.T) {
	f := newFixture(t)
	f.cfg.StopTimeout = 200 * time.Millisecond
	release := make(chan struct{})
	f.run(definition(func(Deps) (App, error) {
		return testApp(func(context.Context) error { <-release; return nil }), nil
	}))
	eventually(t, "the service runs", func() bool { return f.readyz().Components[componentApp] == "ready" })
	f.cancel()
	err := f.stopped()
	close(release)
	if !errors.Is(err, lifecycle.ErrStopTimeout) || !strings.Contains(err.Error(), "component service") {
		t.Errorf("Run = %v", err)
	}
}

func TestWarningsAreLogged(t *testing.T) {
	f := newFixture(t)
	f.cfg.Color = "red"
	f.run(definition(func(Deps) (App, error) { return testApp(untilStopped), nil }))
	eventually(t, "the service runs", func() bool { return f.readyz().Components[componentApp] == "ready" })
	f.cancel()
	if err := f.stopped(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(f.logs.String(), `"problem":"color: is hard to read"`) {
		t.Errorf("log:\n%s", f.logs)
	}
}
