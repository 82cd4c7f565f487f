package page

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

func TestSize(t *testing.T) {
	for in, want := range map[int32]int{0: 100, 1: 1, 999: 999, 1000: 1000, 1001: 1000, 1 << 30: 1000, -1: 100} {
		if got := Size(in); got != want {
			t.Errorf("Size(%d) = %d, want %d", in, got, want)
		}
	}
	if n, err := CheckSize(0); n != DefaultSize || err != nil {
		t.Errorf("CheckSize(0) = %d, %v", n, err)
	}
	_, err := CheckSize(-1)
	e := apierr.From(err)
	if e.Code() != codes.InvalidArgument || e.Violations()[0].Field != "page_size" {
		t.Errorf("CheckSize(-1): %v", err)
	}
}

func TestFit(t *testing.T) {
	sized := func(sizes ...int) (out []*wrapperspb.BytesValue) {
		for _, n := range sizes {
			out = append(out, wrapperspb.Bytes(make([]byte, n)))
		}
		return out
	}
	const half = MaxBytes/2 - 16 // and what is around it
	for name, tc := range map[string]struct {
		messages   []*wrapperspb.BytesValue
		size, want int
	}{
		"none":              {nil, 10, 0},
		"all fit":           {sized(1, 2, 3), 3, 3},
		"more than asked":   {sized(1, 2, 3), 2, 2},
		"too many bytes":    {sized(half, half, 100), 10, 2},
		"one is too large":  {sized(3*half, 1), 10, 1},
		"the last is large": {sized(1, 3*half), 10, 1},
	} {
		if got := Fit(tc.messages, tc.size); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func TestDecode(t *testing.T) {
	const query, key = "state=FAIL", "2026-01-02\x00sha256:abc"
	token := Encode(query, key)
	if got, err := Decode(query, token); got != key || err != nil {
		t.Errorf("Decode = %q, %v", got, err)
	}
	if got, err := Decode(query, ""); got != "" || err != nil {
		t.Errorf("the first page: %q, %v", got, err)
	}
	if Encode(query, "") != "" {
		t.Error("the last page has a token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	future := append([]byte{tokenVersion + 1}, raw[1:]...)
	for name, bad := range map[string]string{
		"of another query": Encode("state=PASS", key),
		"not base64":       "!!!",
		"padded":           token + "=",
		"cut":              token[:10],
		"in two lines":     token[:10] + "\n" + token[10:],
		"without a key":    base64.RawURLEncoding.EncodeToString(raw[:1+bindingSize]),
		"of a new version": base64.RawURLEncoding.EncodeToString(future),
		"too long":         strings.Repeat("A", MaxToken+1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(query, bad)
			e := apierr.From(err)
			if e == nil || e.Code() != codes.InvalidArgument || e.Reason() != ReasonInvalidPageToken {
				t.Errorf("Decode = %v", err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("q", Encode("q", "key"))
	f.Add("q", "")
	f.Add("other", Encode("q", "key"))
	f.Add("q", "AAAA")
	f.Fuzz(func(t *testing.T, query, token string) {
		key, err := Decode(query, token)
		if err == nil && Encode(query, key) != token {
			t.Fatalf("token %q of %q is accepted, but its key %q has the token %q", token, query, key, Encode(query, key))
		}
	})
}

func Example() {
	rows := []string{"a", "b", "c", "d", "e"}
	list := func(filter, token string, size int32) ([]string, string) {
		after, err := Decode(filter, token)
		if err != nil {
			return nil, ""
		}
		n := Size(size)
		var out []string
		for _, r := range rows {
			if r > after {
				out = append(out, r)
			}
		}
		if len(out) <= n {
			return out, ""
		}
		return out[:n], Encode(filter, out[n-1])
	}
	for token, more := "", true; more; more = token != "" {
		var got []string
		got, token = list("all", token, 2)
		fmt.Println(got)
	}
	// Output:
	// [a b]
	// [c d]
	// [e]
}
