module github.com/seaworthy-dev/seaworthy/services/gateway

go 1.26.0

replace github.com/seaworthy-dev/seaworthy/gen => ../../gen

replace github.com/seaworthy-dev/seaworthy/pkg => ../../pkg
