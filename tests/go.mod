module github.com/seaworthy-dev/seaworthy/tests

go 1.26.0

replace github.com/seaworthy-dev/seaworthy/gen => ../gen

replace github.com/seaworthy-dev/seaworthy/pkg => ../pkg

replace github.com/seaworthy-dev/seaworthy/services/scanner => ../services/scanner

replace github.com/seaworthy-dev/seaworthy/services/signer => ../services/signer

replace github.com/seaworthy-dev/seaworthy/services/verifier => ../services/verifier

replace github.com/seaworthy-dev/seaworthy/services/notifier => ../services/notifier

replace github.com/seaworthy-dev/seaworthy/services/gateway => ../services/gateway

replace github.com/seaworthy-dev/seaworthy/cmd => ../cmd

require (
	github.com/google/go-cmp v0.7.0
	go.opentelemetry.io/proto/otlp v1.11.1
)

require (
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.31.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20261005182115-fad411399dd8 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261005182115-fad411399dd8 // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
