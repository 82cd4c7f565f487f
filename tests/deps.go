package tests

import (
	_ "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	_ "github.com/google/go-cmp/cmp"
)
