package obs

import (
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// views bound what libraries measure. A label whose values somebody outside chooses lets
// that person fill the metrics with series until new ones are swallowed, so each
// instrument of a library keeps only the attributes that are named here. What these hold
// comes from this program or its configuration: the HTTP method is one of the known ones,
// and a gRPC method is one that the server has.
func views() []sdkmetric.View {
	bySize := sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}}
	return []sdkmetric.View{
		sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.request.duration"}, sdkmetric.Stream{
			AttributeFilter: attribute.NewAllowKeysFilter("http.request.method", "http.route", "http.response.status_code", "error.type"),
		}),
		// Sizes tell little and were a third of all series.
		sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.request.body.size"}, bySize),
		sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.response.body.size"}, bySize),
		sdkmetric.NewView(sdkmetric.Instrument{Name: "rpc.*.call.duration"}, sdkmetric.Stream{
			Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: []float64{
				0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
			}},
			AttributeFilter: attribute.NewAllowKeysFilter(
				"rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type", "server.address"),
		}),
	}
}
