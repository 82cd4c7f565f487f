package command

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/fleet"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

// oneImage demands one argument and says how it looks.
func oneImage(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return usagef("%s takes one IMAGE, for example registry.example:5000/team/app:1.2 or team/app@sha256:…; got %d arguments", cmd.CommandPath(), len(args))
}

// image reads an IMAGE argument.
func image(f *fleet.Fleet, arg string) (imageref.Ref, error) {
	ref, err := f.Image(arg)
	if err != nil {
		return imageref.Ref{}, &usageError{err}
	}
	return ref, nil
}

// imageMessage reads an IMAGE argument that a service is asked about. A digest
// alone is enough for it.
func imageMessage(f *fleet.Fleet, arg string) (*typev1.ImageRef, error) {
	if strings.HasPrefix(arg, "sha256:") {
		if err := imageref.CheckDigest(arg); err != nil {
			return nil, &usageError{err}
		}
		return &typev1.ImageRef{Digest: arg}, nil
	}
	ref, err := image(f, arg)
	if err != nil {
		return nil, err
	}
	return toMessage(ref), nil
}

// askScanner connects to the scanner and reads the IMAGE argument that it is asked
// about.
func (s *session) askScanner(arg string) (scannerv1.ScannerServiceClient, *typev1.ImageRef, error) {
	f, err := s.open()
	if err != nil {
		return nil, nil, err
	}
	img, err := imageMessage(f, arg)
	if err != nil {
		return nil, nil, err
	}
	client, err := f.Scanner()
	return client, img, err
}

func toMessage(ref imageref.Ref) *typev1.ImageRef {
	return &typev1.ImageRef{Registry: ref.Registry, Repository: ref.Repository, Tag: ref.Tag, Digest: ref.Digest}
}

// imageName is the image's reference without its digest, or the digest if that
// is all there is.
func imageName(m *typev1.ImageRef) string {
	if m.GetRepository() == "" {
		return m.GetDigest()
	}
	return imageref.Ref{Registry: m.GetRegistry(), Repository: m.GetRepository(), Tag: m.GetTag()}.String()
}

// fullName is the image's reference with all that it has.
func fullName(m *typev1.ImageRef) string {
	return imageref.Ref{Registry: m.GetRegistry(), Repository: m.GetRepository(), Tag: m.GetTag(), Digest: m.GetDigest()}.String()
}

func platformName(p *typev1.Platform) string {
	if p.GetOs() == "" && p.GetArchitecture() == "" {
		return "" // the image does not say
	}
	name := p.GetOs() + "/" + p.GetArchitecture()
	if p.GetVariant() != "" {
		name += "/" + p.GetVariant()
	}
	return name
}
