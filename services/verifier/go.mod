module github.com/seaworthy-dev/seaworthy/services/verifier

go 1.26.0

replace github.com/seaworthy-dev/seaworthy/gen => ../../gen

replace github.com/seaworthy-dev/seaworthy/pkg => ../../pkg

require cel.dev/cel-go v0.33.2

require (
	cel.dev/expr v0.25.3 // indirect
	github.com/antlr4-go/antlr/v4 v4.13.1 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/exp v0.0.0-20261011100332-faecfb24eb49 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20261005182115-fad411399dd8 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261005182115-fad411399dd8 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
