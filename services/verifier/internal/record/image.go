package record

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// KindImage is the kind of a recorded image.
const KindImage = "RecordedImage"

// Image is the recorded evidence of an image, to be kept in a file for unit tests of
// policies.
type Image struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Image with tag and digest.
	Image string `json:"image"`
	// EvaluateTime is the `now` of the verdict that it was recorded with.
	EvaluateTime time.Time               `json:"evaluateTime"`
	Platforms    []core.PlatformEvidence `json:"platforms"`
}

// EncodeImage returns the form for a file.
func EncodeImage(image imageref.Ref, at time.Time, platforms []core.PlatformEvidence) ([]byte, error) {
	b, err := json.MarshalIndent(Image{
		APIVersion: "seaworthy.dev/v1", Kind: KindImage, Image: image.String(), EvaluateTime: at.UTC(), Platforms: platforms,
	}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode recorded image: %w", err)
	}
	return append(b, '\n'), nil
}

// DecodeImage reads such a file. A field that this release does not know is an error.
func DecodeImage(data []byte) (Image, error) {
	if len(data) > MaxDocument {
		return Image{}, fmt.Errorf("a recorded image of %d bytes is larger than %d", len(data), MaxDocument)
	}
	var i Image
	if err := strictjson.UnmarshalKnown(data, &i); err != nil {
		return Image{}, fmt.Errorf("decode recorded image: %w", err)
	}
	if i.APIVersion != "seaworthy.dev/v1" || i.Kind != KindImage {
		return Image{}, fmt.Errorf("it is %.80q of %.80q, not %s of seaworthy.dev/v1", i.Kind, i.APIVersion, KindImage)
	}
	return i, nil
}
