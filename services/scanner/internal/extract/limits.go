package extract

import (
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// Limits bound what one image may cost. Over the limit of a layer or of the image
// the scan fails with LIMIT_EXCEEDED; a single file over MaxFile makes the report
// incomplete.
type Limits struct {
	// MaxFile is the size of the largest file that is read.
	MaxFile config.Bytes `yaml:"max_file"`
	// MaxInMemory is the size of the largest file that is held in memory to be read.
	// Larger ones are in a temporary file without a name meanwhile.
	MaxInMemory config.Bytes `yaml:"max_in_memory"`
	// MaxBuffered is what all scans of the process together hold of files in memory.
	MaxBuffered config.Bytes `yaml:"max_buffered"`
	// MaxSpilled is what they hold in temporary files.
	MaxSpilled config.Bytes `yaml:"max_spilled"`
	// MaxLayer is the size of the largest layer, decompressed.
	MaxLayer config.Bytes `yaml:"max_layer"`
	// MaxImage is the size of the largest image, decompressed.
	MaxImage config.Bytes `yaml:"max_image"`
	// MaxRatio is the highest ratio of decompressed to compressed bytes of a layer.
	// It counts from 64 MiB on, below that no ratio hurts.
	MaxRatio int64 `yaml:"max_ratio"`
	// MaxEntries is the number of tar entries in all layers together.
	MaxEntries int `yaml:"max_entries"`
	// MaxNames is the number of bytes of paths in all layers together.
	MaxNames config.Bytes `yaml:"max_names"`
	// MaxDepth is the number of components of the longest path.
	MaxDepth int `yaml:"max_depth"`
	// MaxPackages is the number of packages in an image. The files of its layers
	// may hold ten times as many: layers repeat what they change.
	MaxPackages int `yaml:"max_packages"`
}

// DefaultLimits fit images far larger than usual ones.
func DefaultLimits() Limits {
	return Limits{
		MaxFile:     1 << 30,
		MaxInMemory: 32 << 20,
		MaxBuffered: 256 << 20,
		MaxSpilled:  4 << 30,
		MaxLayer:    16 << 30,
		MaxImage:    32 << 30,
		MaxRatio:    250,
		MaxEntries:  2_000_000,
		MaxNames:    256 << 20,
		MaxDepth:    128,
		MaxPackages: 100_000,
	}
}

// ratioFrom is where MaxRatio starts to count.
const ratioFrom = 64 << 20

// maxPath is the longest path of an entry, that of Linux.
const maxPath = 4096

// Validate reports limits that cannot work.
func (l Limits) Validate(p *config.Problems) {
	positive := func(path string, v int64) {
		if v <= 0 {
			p.Errorf(path, "must be positive")
		}
	}
	positive("max_file", int64(l.MaxFile))
	positive("max_in_memory", int64(l.MaxInMemory))
	positive("max_buffered", int64(l.MaxBuffered))
	positive("max_spilled", int64(l.MaxSpilled))
	positive("max_layer", int64(l.MaxLayer))
	positive("max_image", int64(l.MaxImage))
	positive("max_ratio", l.MaxRatio)
	positive("max_entries", int64(l.MaxEntries))
	positive("max_names", int64(l.MaxNames))
	positive("max_depth", int64(l.MaxDepth))
	positive("max_packages", int64(l.MaxPackages))
	if l.MaxBuffered < l.MaxInMemory {
		p.Errorf("max_buffered", "must not be less than max_in_memory")
	}
	if l.MaxSpilled < l.MaxFile {
		p.Errorf("max_spilled", "must not be less than max_file")
	}
}

func tooManyPackages(l Limits) *core.FaultError {
	return exceeded("the image has more than %d packages", l.MaxPackages)
}

func exceeded(format string, args ...any) *core.FaultError {
	return core.NewFault(core.ReasonLimitExceeded, format, args...)
}
