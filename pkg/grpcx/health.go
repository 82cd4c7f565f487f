package grpcx

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
)

// healthPoll is how often a watcher of the health looks at the readiness.
const healthPoll = time.Second

// healthServer answers the health protocol of gRPC out of the readiness of the
// whole process. It knows only the empty service name: the services of one
// process are ready together.
type healthServer struct {
	healthv1.UnimplementedHealthServer
	readiness *lifecycle.Readiness

	once    sync.Once
	stopped chan struct{}
}

func newHealthServer(r *lifecycle.Readiness) *healthServer {
	return &healthServer{readiness: r, stopped: make(chan struct{})}
}

// stop makes the health NOT_SERVING for good and ends the watchers.
func (h *healthServer) stop() { h.once.Do(func() { close(h.stopped) }) }

func (h *healthServer) status() healthv1.HealthCheckResponse_ServingStatus {
	select {
	case <-h.stopped:
		return healthv1.HealthCheckResponse_NOT_SERVING
	default:
	}
	if h.readiness.Check() != nil {
		return healthv1.HealthCheckResponse_NOT_SERVING
	}
	return healthv1.HealthCheckResponse_SERVING
}

// Check implements the health protocol.
func (h *healthServer) Check(_ context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if req.GetService() != "" {
		return nil, status.Error(codes.NotFound, "unknown service: only the empty name is known")
	}
	return &healthv1.HealthCheckResponse{Status: h.status()}, nil
}

// List implements the health protocol.
func (h *healthServer) List(context.Context, *healthv1.HealthListRequest) (*healthv1.HealthListResponse, error) {
	return &healthv1.HealthListResponse{Statuses: map[string]*healthv1.HealthCheckResponse{
		"": {Status: h.status()},
	}}, nil
}

// Watch implements the health protocol: the status at once and at each change.
func (h *healthServer) Watch(req *healthv1.HealthCheckRequest, ss grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	// The protocol demands SERVICE_UNKNOWN instead of an error here.
	last := healthv1.HealthCheckResponse_UNKNOWN
	ticker := time.NewTicker(healthPoll)
	defer ticker.Stop()
	for {
		now := healthv1.HealthCheckResponse_SERVICE_UNKNOWN
		if req.GetService() == "" {
			now = h.status()
		}
		if now != last {
			if err := ss.Send(&healthv1.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-h.stopped:
			return h.sendStopped(last, ss)
		case <-ss.Context().Done():
			return ss.Context().Err()
		case <-ticker.C:
		}
	}
}

func (h *healthServer) sendStopped(last healthv1.HealthCheckResponse_ServingStatus, ss grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	if last == healthv1.HealthCheckResponse_NOT_SERVING {
		return nil
	}
	return ss.Send(&healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING})
}
