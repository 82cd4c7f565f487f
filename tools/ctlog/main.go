// Command ctlog serves a certificate transparency log (RFC 6962) on loopback: CTFE
// on Trillian, with Trillian's own storage in memory. Their programs are three
// processes and want a database server; the code that answers is the same.
//
// It serves below /ct until it is killed.
package main

import (
	"context"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/certificate-transparency-go/trillian/ctfe"
	"github.com/google/certificate-transparency-go/trillian/ctfe/cache"
	"github.com/google/certificate-transparency-go/trillian/ctfe/configpb"
	"github.com/google/trillian"
	"github.com/google/trillian/client"
	"github.com/google/trillian/crypto/keys"
	"github.com/google/trillian/crypto/keys/der"
	"github.com/google/trillian/crypto/keyspb"
	"github.com/google/trillian/extension"
	"github.com/google/trillian/log"
	"github.com/google/trillian/monitoring"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/server"
	"github.com/google/trillian/server/admin"
	"github.com/google/trillian/server/interceptor"
	"github.com/google/trillian/storage/memory"
	"github.com/google/trillian/util/clock"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/klog/v2"
)

// prefix is the log's name in its address.
const prefix = "ct"

// sequencing is how often entries are taken into the tree.
const sequencing = 200 * time.Millisecond

func main() {
	var listen, key, roots string
	flag.StringVar(&listen, "listen", "127.0.0.1:6962", "address to serve HTTP on")
	flag.StringVar(&key, "key", "", "PEM file of the log's private key")
	flag.StringVar(&roots, "roots", "", "PEM file of the authorities whose certificates are taken in")
	flag.Parse()
	// Errors go to the standard error output all the same. Storage in memory warns at
	// each turn of the sequencer that finds nothing.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	if err := run(listen, key, roots); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(listen, key, roots string) error {
	ctx := context.Background()
	backend, err := startTrillian(ctx)
	if err != nil {
		return err
	}
	handlers, err := openLog(ctx, backend, key, roots)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	for path, handler := range handlers {
		mux.Handle(path, handler)
	}
	front := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return front.ListenAndServe()
}

// startTrillian serves Trillian's RPCs in the process and sequences what they take in.
func startTrillian(ctx context.Context) (*grpc.ClientConn, error) {
	trees := memory.NewTreeStorage()
	registry := extension.Registry{
		AdminStorage:  memory.NewAdminStorage(trees),
		LogStorage:    memory.NewLogStorage(trees, monitoring.InertMetricFactory{}),
		QuotaManager:  quota.Noop(),
		MetricFactory: monitoring.InertMetricFactory{},
	}
	rpcs := grpc.NewServer(grpc.UnaryInterceptor(interceptor.ErrorWrapper))
	trillian.RegisterTrillianAdminServer(rpcs, admin.New(registry, nil))
	trillian.RegisterTrillianLogServer(rpcs, server.NewTrillianLogRPCServer(registry, clock.System))
	pipe := bufconn.Listen(1 << 20)
	go func() { _ = rpcs.Serve(pipe) }() // until the process ends

	sequencer := log.NewOperationManager(log.OperationInfo{
		Registry: registry, BatchSize: 100, NumWorkers: 1, RunInterval: sequencing, TimeSource: clock.System,
	}, log.NewSequencerManager(registry, 0))
	go sequencer.OperationLoop(ctx)

	return grpc.NewClient("passthrough:trillian",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// openLog makes the tree and the log that is in it.
func openLog(ctx context.Context, backend *grpc.ClientConn, key, roots string) (ctfe.PathHandlers, error) {
	text, err := os.ReadFile(key)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", key)
	}
	keys.RegisterHandler(&keyspb.PrivateKey{}, der.FromProto)
	private, err := anypb.New(&keyspb.PrivateKey{Der: block.Bytes})
	if err != nil {
		return nil, err
	}
	entries := trillian.NewTrillianLogClient(backend)
	tree, err := client.CreateAndInitTree(ctx, &trillian.CreateTreeRequest{Tree: &trillian.Tree{
		TreeState: trillian.TreeState_ACTIVE, TreeType: trillian.TreeType_LOG, MaxRootDuration: durationpb.New(time.Hour),
	}}, trillian.NewTrillianAdminClient(backend), entries)
	if err != nil {
		return nil, err
	}
	validated, err := ctfe.ValidateLogConfig(&configpb.LogConfig{
		LogId: tree.GetTreeId(), Prefix: prefix, PrivateKey: private, RootsPemFile: []string{roots},
		// What Fulcio's certificates are for.
		ExtKeyUsages: []string{"CodeSigning"},
	})
	if err != nil {
		return nil, err
	}
	instance, err := ctfe.SetUpInstance(ctx, ctfe.InstanceOptions{
		Validated: validated, Client: entries, Deadline: 10 * time.Second, MetricFactory: monitoring.InertMetricFactory{},
		RequestLog: new(ctfe.DefaultRequestLog), CacheType: cache.NOOP,
	})
	if err != nil {
		return nil, err
	}
	return instance.Handlers, nil
}
