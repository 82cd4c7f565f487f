package command_test

import (
	"encoding/json"
	"net"
	"strings"
	"testing"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// hostile would clear a terminal, set its title, reorder and overwrite text, and begin a
// line of its own. Valid UTF-8, as protobuf wants it.
const hostile = "x\x1b[2J\x1b]0;t\x07\u202e\u2066\u009b31m\r\x00\u200b\u2028\nOWNED"

// hostileFleet is a fleet whose services answer every call, with every field hostile,
// or with a hostile error.
func hostileFleet(t *testing.T, fail bool) *testFleet {
	t.Helper()
	f := newFleet(t)
	serve := func(service string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer(
			grpc.Creds(credentials.NewTLS(f.source("hostile-"+service, tlsx.ServiceID(domain, service)).Server("h2"))),
			grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return answer(ss, fail) }))
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		return l.Addr().String()
	}
	f.context.Addresses = fleetcontext.Addresses{Scanner: serve("scanner"), Signer: serve("signer"), Verifier: serve("verifier"), Notifier: serve("notifier")}
	f.save()
	return f
}

func answer(ss grpc.ServerStream, fail bool) error {
	path, _ := grpc.MethodFromServerStream(ss)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", ".")))
	if err != nil {
		return err
	}
	method := found.(protoreflect.MethodDescriptor)
	for more := true; more; more = method.IsStreamingClient() {
		if ss.RecvMsg(dynamicpb.NewMessage(method.Input())) != nil {
			break
		}
	}
	if fail {
		s, err := status.New(codes.InvalidArgument, hostile).WithDetails(
			&errdetails.ErrorInfo{Reason: "REASON", Domain: "seaworthy.dev", Metadata: map[string]string{"k": hostile}},
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
				{Field: hostile, Description: hostile}, {Field: hostile, Description: hostile},
			}})
		if err != nil {
			return err
		}
		return s.Err()
	}
	out := dynamicpb.NewMessage(method.Output())
	fill(out, 8)
	return ss.SendMsg(out)
}

// fill sets every field. Pages have no next one.
func fill(m protoreflect.Message, depth int) {
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		if f.Name() == "next_page_token" || depth == 0 {
			continue
		}
		switch {
		case f.IsMap():
			if f.MapValue().Kind() == protoreflect.StringKind && f.MapKey().Kind() == protoreflect.StringKind {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString(hostile).MapKey(), protoreflect.ValueOfString(hostile))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			if f.Message() != nil {
				fill(list.AppendMutable().Message(), depth-1)
			} else {
				list.Append(scalar(f))
			}
		case f.Message() == nil:
			m.Set(f, scalar(f))
		default:
			fill(m.Mutable(f).Message(), depth-1)
		}
	}
}

func scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(hostile)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(hostile))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(f.Enum().Values().Get(1).Number())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(1)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(1)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(1)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(1)
	default:
		panic("no value for " + f.Kind().String())
	}
}

// Whatever a service, a registry or an image says, no command lets it steer the terminal.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	image := "registry.test:5000/shop/ledger@" + digestA
	commands := [][]string{
		{"verdict", image}, {"verdict", image, "--refresh"}, {"verdict", "history", image}, {"verdict", "explain", image}, {"verdict", "watch", "--timeout", "300ms"},
		{"policy", "list"}, {"policy", "history", "p"}, {"policy", "show", "p", "--version", "1"},
		{"policy", "delete", "p", "--yes"}, {"exception", "list"}, {"vex", "list"}, {"findings", image}, {"affected", "CVE-2021-44228"},
		{"affected", "pkg:npm/" + hostile}, {"scan", image}, {"advisories", "status"}, {"advisories", "refresh"}, {"keys", "list"}, {"keys", "revoke", "k", "--yes"},
		{"trust-bundle"}, {"deliveries"}, {"attestations", image}, {"sbom", image, "--format", hostile}, {"verdict", hostile},
		{hostile}, {"verdict", "--" + hostile}, {"policy", "lint", hostile}, {"context", "show"}, {"topology", "--nats", hostile},
		{"verdict", image, "--context", hostile}, {"-o", hostile, "keys", "list"},
	}
	steers := func(s string) bool {
		return strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && (!unicode.IsPrint(r) || unicode.IsSpace(r) && r != ' ') })
	}
	for name, fail := range map[string]bool{"answer": false, "error": true} {
		f := hostileFleet(t, fail)
		for _, args := range commands {
			for _, format := range []string{"table", "json"} {
				if args[0] == "policy" && args[1] == "show" && format == "table" && !fail {
					continue // a document: see TestHostileAnswers_exact
				}
				r := f.run(append(append([]string{}, args...), "-o", format)...)
				if steers(r.out) || steers(r.err) {
					t.Errorf("%s of %q -o %s: %q, %q", name, args, format, r.out, r.err)
				}
				for line := range strings.Lines(r.out + r.err) {
					if strings.HasPrefix(line, "OWNED") {
						t.Errorf("%s of %q -o %s begins a line of its own: %q, %q", name, args, format, r.out, r.err)
					}
				}
				if format == "json" && r.code == 0 && !json.Valid([]byte(r.out)) {
					t.Errorf("%q is not JSON: %q", args, r.out)
				}
			}
		}
	}
}

// JSON says exactly what the service said, and a document is what was stored.
func TestHostileAnswers_exact(t *testing.T) {
	t.Parallel()
	f := hostileFleet(t, false)
	var got struct {
		Policies []struct{ Name, Document string }
	}
	if err := json.Unmarshal([]byte(f.run("policy", "list", "-o", "json").out), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Policies) != 1 || got.Policies[0].Name != hostile {
		t.Errorf("policies are %q", got)
	}
	if r := f.run("policy", "show", "p", "--version", "1"); r.out != hostile {
		t.Errorf("the document is %q", r.out)
	}
	if r := f.run("sbom", "registry.test:5000/shop/ledger@"+digestA); r.out != hostile {
		t.Errorf("the bill of materials is %q", r.out)
	}
}
