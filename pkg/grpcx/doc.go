// Package grpcx is the one place that builds gRPC servers and clients. What it
// builds always has mutual TLS 1.3, an authorization table, tracing and metrics,
// limits on messages and deadlines, recovery from panics, masked errors, health
// and keepalive; there is no way to leave one of them out.
package grpcx
