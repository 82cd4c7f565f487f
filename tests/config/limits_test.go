package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/seaworthy-dev/seaworthy/tests/internal/repo"
)

// TestEveryCallIsBounded: a method that lists, answers a batch or waits has a
// row with its bound in docs/ARCHITECTURE.md. One that lists has pages.
func TestEveryCallIsBounded(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(repo.Root(t), "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\|((?: `\\w+\\.\\w+`,?)+) \\| [^|]+ \\|$").FindAllStringSubmatch(string(doc), -1) {
		for _, name := range strings.Split(row[1], ",") {
			documented[strings.Trim(name, " `")] = true
		}
	}
	// The keys of the signer are few, and each was made by an operator.
	whole := map[protoreflect.FullName]bool{"seaworthy.signer.v1.KeyAdminService.ListKeys": true}
	methods := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(f.Package()), "seaworthy.") {
			return true
		}
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for n := range service.Methods().Len() {
				m := service.Methods().Get(n)
				in, out := m.Input().Fields(), m.Output().Fields()
				paged := in.ByName("page_size") != nil && in.ByName("page_token") != nil && out.ByName("next_page_token") != nil
				lists := strings.HasPrefix(string(m.Name()), "List") || in.ByName("page_size") != nil || out.ByName("next_page_token") != nil
				if lists && !paged && !whole[m.FullName()] {
					t.Errorf("%s has no pages", m.FullName())
				}
				if !lists && !strings.HasPrefix(string(m.Name()), "Batch") && in.ByName("wait") == nil {
					continue
				}
				methods++
				name := string(service.Name()) + "." + string(m.Name())
				if !documented[name] {
					t.Errorf("%s: no row with its bound in docs/ARCHITECTURE.md", name)
				}
				delete(documented, name)
			}
		}
		return true
	})
	if methods < 15 {
		t.Errorf("%d methods were looked at", methods)
	}
	for name := range documented {
		t.Errorf("%s is documented and is no such method", name)
	}
}
